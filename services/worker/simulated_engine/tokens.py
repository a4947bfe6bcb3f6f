"""A tokenizer without a vocabulary file: pieces of words, the same every time, close to what real ones count."""

from __future__ import annotations

import re
from typing import Any

# Up to seven letters with their leading space, up to three digits, or one character: about four characters a token.
_PIECE = re.compile(r"<\|im_start\|>|<\|im_end\|>| ?[A-Za-z]{1,7}|\d{1,3}|\s|.", re.DOTALL)

VOCABULARY_SIZE = 4096
END_OF_TURN = 2


def pieces_of(text: str) -> list[str]:
    """The tokens of `text`; joined they are `text` again."""
    return _PIECE.findall(text)


def pieces_of_ids(ids: list[int]) -> list[str]:
    """Pieces that stand for token ids: distinct, so that prefixes of ids are found again as prefixes of text are."""
    return [f" t{token}" for token in ids]


def chat_text(messages: list[dict[str, Any]], tools: list[Any] | None) -> str:
    """The prompt that a chat becomes, in the shape of common chat templates."""
    parts = []
    if tools:
        parts.append(f"<|im_start|>system\n# Tools\n{tools}<|im_end|>\n")
    for message in messages:
        content = message.get("content") or ""
        if not isinstance(content, str):
            content = "".join(part.get("text") or "" for part in content)
        parts.append(f"<|im_start|>{message['role']}\n{content}<|im_end|>\n")
    parts.append("<|im_start|>assistant\n")
    return "".join(parts)
