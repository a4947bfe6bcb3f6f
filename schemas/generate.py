"""Writes the JSON Schema of every event and the AsyncAPI document into schemas/generated/.

    python -m schemas.generate           write them
    python -m schemas.generate --check   fail where they are out of date, or where a change breaks a reader

The files are the published contract: the types in this package are their only source.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from schemas.compatibility import breaks
from schemas.envelope import Event
from schemas.topics import EVENT_TYPES, TOPICS

FOLDER = Path(__file__).parent / "generated"
ASYNCAPI = "asyncapi.json"


def event_schema(name: str) -> dict[str, Any]:
    """JSON Schema 2020-12 of one event type, the envelope included."""
    data = EVENT_TYPES[name]
    # The subscript is made at run time from the table of types, which no static checker can follow.
    schema = msgspec.json.schema(Event[data])  # type: ignore[valid-type]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"hydra:schemas/{name}.json",
        **schema,
    }


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0: every topic with its key, settings and messages."""
    channels = {
        topic.name: {
            "address": topic.name,
            "description": f"Key: {topic.key}.",
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in topic.events},
            "bindings": {
                "kafka": {
                    "partitions": topic.partitions,
                    "topicConfiguration": {
                        "cleanup.policy": [topic.cleanup],
                        "retention.ms": topic.retention_ms,
                        "max.message.bytes": topic.max_message_bytes,
                    },
                }
            },
        }
        for topic in TOPICS
    }
    messages = {
        name: {
            "name": name,
            "contentType": "application/cloudevents+json",
            "summary": (struct.__doc__ or "").strip().split("\n", 1)[0],
            "payload": {
                "schemaFormat": "application/schema+json;version=draft-2020-12",
                "schema": {"$ref": f"./{name}.json"},
            },
        }
        for name, struct in EVENT_TYPES.items()
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Hydra's events", "version": "1"},
        "channels": channels,
        "components": {"messages": messages},
    }


def documents() -> dict[str, str]:
    """File name -> text of everything that is generated."""
    texts = {f"{name}.json": event_schema(name) for name in EVENT_TYPES} | {ASYNCAPI: asyncapi()}
    return {name: json.dumps(document, indent=2, sort_keys=True) + "\n" for name, document in texts.items()}


def previously_committed(name: str) -> dict[str, Any] | None:
    """The newest committed text of a generated file that differs from the present one, if git knows one."""
    path = f"schemas/generated/{name}"
    root = FOLDER.parent.parent
    log = subprocess.run(
        ["git", "log", "-n", "20", "--format=%H", "--", path], cwd=root, capture_output=True, text=True, check=False
    )
    present = documents()[name]
    for commit in log.stdout.split():
        shown = subprocess.run(
            ["git", "show", f"{commit}:{path}"], cwd=root, capture_output=True, text=True, check=False
        )
        if shown.returncode == 0 and shown.stdout != present:
            document: dict[str, Any] = json.loads(shown.stdout)
            return document
    return None


def check() -> list[str]:
    """What is wrong, one line each."""
    found = []
    for name, text in documents().items():
        path = FOLDER / name
        if not path.exists() or path.read_text() != text:
            found.append(f"schemas/generated/{name} is out of date; run: python -m schemas.generate")
        if name != ASYNCAPI and (old := previously_committed(name)) is not None:
            found += [f"{name}: {broken}" for broken in breaks(old, json.loads(text))]
    known = set(documents())
    found += [
        f"schemas/generated/{path.name}: no such event any more" for path in FOLDER.iterdir() if path.name not in known
    ]
    return found


def main() -> int:
    """Exit code 0: done, or nothing wrong; 1: `--check` found something, printed a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail on stale files or broken readers")
    if parser.parse_args().check:
        found = check()
        print("\n".join(found) or "schemas: up to date and compatible")
        return 1 if found else 0
    FOLDER.mkdir(exist_ok=True)
    for name, text in documents().items():
        (FOLDER / name).write_text(text)
    print(f"schemas: {len(documents())} files in schemas/generated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
