"""One run of the compose file under a name of its own, on free ports: started, asked, harmed, taken down."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.platform import ROOT, wait_until
from tests.servers.ports import free_port

SETTINGS = "tests/compose/services.env"
NODE_SETTINGS = "tests/compose/engines.env"
OPEN_FILES_WANTED = 65_536
PROFILES = ("gpu", "observability")
PUBLISHED = ("gateway", "accounts", "lifecycle", "billing")
NODES = "/var/lib/hydra/nodes"

BUILD_WITHIN_S = 900.0
UP_WITHIN_S = 480.0
ASK_AGAIN_AFTER_S = 5.0
DOWN_WITHIN_S = 240.0
ANSWER_WITHIN_S = 120.0
BACK_WITHIN_S = 360.0
"""A machine that others load too starts a Java process slowly."""


def say(text: str) -> None:
    """One line of progress."""
    print(f"compose-test {time.strftime('%H:%M:%S')} {text}", flush=True)


@dataclass(frozen=True)
class Struck:
    """A container whose first process was killed: `pid`, by the machine's count."""

    project: ComposeProject
    container: str
    pid: int
    healthcheck: tuple[str, ...]

    def is_dead(self) -> bool:
        """Whether the killed process is gone, be there a new one or not."""
        return bool(self._now()["State"]["Pid"] != self.pid)

    def answers(self) -> bool:
        """Whether a new process does what Docker asks of it, seen now and not at Docker's next look."""
        try:
            self.project.docker("exec", self.container, *self.healthcheck)
        except AssertionError:
            return False
        return self.is_dead()

    def is_back(self) -> bool:
        """Whether Docker has it in order again."""
        state = self._now()["State"]
        # What is said of its health is old until the new process runs.
        return state["Pid"] not in (0, self.pid) and state["Health"]["Status"] == "healthy"

    def await_back(self) -> None:
        """Wait until Docker has it in order again."""
        wait_until(self.is_back, f"{self.container} is healthy again", BACK_WITHIN_S, 0.5)

    def _now(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.project.docker("inspect", self.container))[0]
        return found


class ComposeProject:
    """docker-compose.yml as it is, on free ports, with the settings of the test's own files. Everything carries `name`,
    and so does the image that it builds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.image = f"{name}:test"
        self.ports = {service: free_port() for service in PUBLISHED}
        _, here = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A Docker without the right to raise its limits has no more to give than this machine's other processes have.
        self.open_files = OPEN_FILES_WANTED if here == resource.RLIM_INFINITY else min(OPEN_FILES_WANTED, here)
        # Not the settings of whoever works in this checkout.
        others = ("HYDRA_", "KAFKA_", "COMPOSE_")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(others)}
        self.environment |= {f"HYDRA_{service.upper()}_PORT": str(port) for service, port in self.ports.items()}
        # Not the settings of whoever works in this checkout.
        self.environment |= {
            "HYDRA_IMAGE": self.image,
            "HYDRA_SETTINGS_FILE": SETTINGS,
            "HYDRA_NODE_SETTINGS_FILE": NODE_SETTINGS,
            "HYDRA_OPEN_FILES": str(self.open_files),
            "COMPOSE_DISABLE_ENV_FILE": "1",
        }

    def url(self, service: str) -> str:
        """Where a published service is reached from this machine."""
        return f"http://127.0.0.1:{self.ports[service]}"

    def docker(self, *words: str, check: bool = True, within_s: float = ANSWER_WITHIN_S) -> str:
        """What `docker WORDS` printed; with `check` a failure fails the test with what it said."""
        done = subprocess.run(
            ["docker", *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
        said = f"docker {' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        assert not check or done.returncode == 0, said
        return done.stdout

    def compose(self, *words: str, check: bool = True, within_s: float = ANSWER_WITHIN_S) -> str:
        """As `docker`, for this project."""
        words = ("compose", "--progress", "quiet", "--project-name", self.name, *words)
        return self.docker(*words, check=check, within_s=within_s)

    def start(self, *options: str) -> None:
        """Builds the image and brings everything up, ready."""
        say("building the image")
        self.compose("build", within_s=BUILD_WITHIN_S)
        say("starting everything")
        ends = time.monotonic() + UP_WITHIN_S
        while True:
            try:
                self.compose("up", "--detach", "--wait", *options, within_s=UP_WITHIN_S)
                return
            except AssertionError as error:
                # Docker waits two minutes for a process that starts; on a machine that others load too it starts later.
                if "is unhealthy" in str(error) and time.monotonic() < ends:
                    say(f"still waiting: {str(error).strip().splitlines()[-1]}")
                    time.sleep(ASK_AGAIN_AFTER_S)
                    continue
                self.tell()
                raise

    def tell(self) -> None:
        """Prints what Docker knows of it, for whoever has to find out why a test failed."""
        print(self.compose("ps", "--all", check=False), self.compose("logs", "--tail", "20", check=False))

    def stop(self) -> None:
        """Takes everything down, with what it has stored and the image."""
        self.compose("down", "--volumes", "--remove-orphans", check=False, within_s=DOWN_WITHIN_S)
        self.docker("image", "rm", self.image, check=False)

    def left(self) -> dict[str, list[str]]:
        """Whatever is still there, by kind."""
        ours = f"label=com.docker.compose.project={self.name}"
        asked = {
            "containers": ("ps", "--all", "--quiet", "--filter", ours),
            "volumes": ("volume", "ls", "--quiet", "--filter", ours),
            "networks": ("network", "ls", "--quiet", "--filter", ours),
            "images": ("image", "ls", "--quiet", self.image),
        }
        return {kind: found for kind, words in asked.items() if (found := self.docker(*words).split())}

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """What `docker inspect` says of the containers of these services; of all where none is named."""
        names = self.compose("ps", "--all", "--quiet", *services).split()
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *names))
        return found

    def hydra(self, *words: str) -> Any:
        """`hydra WORDS --json` in a container that has the operator's token, decoded."""
        return json.loads(self.compose("exec", "-T", "accounts", "hydra", *words, "--json"))

    def status(self, asked_in: str = "accounts") -> tuple[bool, dict[str, Any]]:
        """Whether `hydra status` ends with 0, and what it tells."""
        code = 'hydra status --json; echo "$?"'
        told, _, ended = self.compose("exec", "-T", asked_in, "sh", "-c", code).rstrip().rpartition("\n")
        found: dict[str, Any] = json.loads(told)
        return ended == "0", found

    def sql(self, query: str) -> list[dict[str, Any]]:
        """As the owner of the database, in ClickHouse's own container."""
        client = 'clickhouse-client --user hydra --password "$(cat /run/handed/password)" --query "$0"'
        query = f"{query} SETTINGS output_format_json_quote_decimals = 1 FORMAT JSON"
        answer = json.loads(self.compose("exec", "-T", "clickhouse", "sh", "-c", client, query))
        rows: list[dict[str, Any]] = answer["data"]
        return rows

    def python(self, service: str, code: str) -> str:
        """What this code prints in a container of a service."""
        return self.compose("exec", "-T", service, "python", "-c", code)

    def kill(self, service: str) -> None:
        """As `strike`, and wait until Docker has it in order again."""
        self.strike(service).await_back()

    def strike(self, service: str) -> Struck:
        """kill -9 of a container's first process, as a crash would.

        `docker kill` would count as the operator's wish, upon which nothing is restarted. So another container does it,
        which sees the machine's processes: whoever may use Docker may run this test.
        """
        before = self.containers(service)[0]
        test = before["Config"]["Healthcheck"]["Test"]
        struck = Struck(self, before["Name"].removeprefix("/"), before["State"]["Pid"], tuple(test[1:]))
        words = ("--pid=host", "--network=none", "--user=0:0", "--cap-drop=ALL", "--cap-add=KILL", "--entrypoint=sh")
        self.docker("run", "--rm", *words, self.image, "-c", f"kill -9 {struck.pid}")
        wait_until(struck.is_dead, f"{service} is dead", 60, 0.1)
        return struck

    def copy_truth(self, home: Path) -> None:
        """What engines and agents wrote down by themselves, as tests/faults/truth.py looks for it."""
        shutil.rmtree(home / "worker", ignore_errors=True)
        shutil.rmtree(home / "ledgers", ignore_errors=True)
        self.compose("cp", "--index", "1", f"node:{NODES}/.", str(home / "worker"))
        (home / "worker" / "ledgers").rename(home / "ledgers")
