"""Answers on the wire, field by field as SGLang writes them."""

from __future__ import annotations

import json
from typing import Any

from services.worker.simulated_engine.engine import Run, Sequence

_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
DONE = b"data: [DONE]\n\n"


def usage_of(run: Run, cache_report: bool) -> dict[str, Any]:
    """Usage of a whole run: each prompt once, all that was generated."""
    firsts = run.sequences[:: run.order.n]
    cached = sum(each.cached_tokens for each in firsts) if cache_report else None
    return _usage(sum(each.prompt_tokens for each in firsts), sum(each.words.tokens for each in run.sequences), cached)


def _usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int | None) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": None if cached_tokens is None else {"cached_tokens": cached_tokens},
        "reasoning_tokens": 0,
        "completion_tokens_details": None,
    }


def whole(run: Run, cache_report: bool) -> bytes:
    """The body of an answer that is not streamed."""
    order = run.order
    choices = []
    for index, sequence in enumerate(run.sequences):
        words = sequence.words
        text = "".join(words.parts)
        logprobs = None if order.top_logprobs is None else _logprobs(order.chat, words.parts, order.top_logprobs)
        content: dict[str, Any]
        if order.chat:
            content = {"message": {"role": "assistant", "content": text, "reasoning_content": None}}
        else:
            echo = order.echoes[index // order.n] if order.echoes else ""
            content = {"text": echo + text}
        choices.append(
            {"index": index}
            | content
            | {"logprobs": logprobs, "finish_reason": words.finish_reason, "matched_stop": words.matched_stop}
        )
    return _dumps(
        {
            "id": run.sequences[0].id,
            "object": "chat.completion" if order.chat else "text_completion",
            "created": run.created,
            "model": order.model,
            "choices": choices,
            "usage": usage_of(run, cache_report),
            "metadata": {"weight_version": "simulated"},
        }
    ).encode()


class StreamWriter:
    """Chunks of one streamed run."""

    def __init__(self, run: Run, cache_report: bool) -> None:
        order = run.order
        kind = "chat.completion.chunk" if order.chat else "text_completion"
        self._run = run
        self._cache_report = cache_report
        self._tail = f'"object":"{kind}","created":{run.created},"model":{_dumps(order.model)},"choices":['

    def role(self, index: int, sequence: Sequence) -> str:
        """A chat's first chunk of a choice."""
        delta = '{"reasoning_content":null,"role":"assistant","content":""}'
        ending = '"logprobs":null,"finish_reason":null,"matched_stop":null'
        return self._chunk(sequence, f'{{"index":{index},"delta":{delta},{ending}}}', "")

    def chat(self, index: int, sequence: Sequence, parts: list[str]) -> str:
        """A chat's next words."""
        delta = f'{{"reasoning_content":null,"content":{_dumps("".join(parts))}}}'
        ending = '"finish_reason":null,"matched_stop":null'
        choice = f'{{"index":{index},"delta":{delta},"logprobs":{self._logprobs(parts)},{ending}}}'
        return self._chunk(sequence, choice, self._continuous(sequence, self._cache_report))

    def chat_end(self, index: int, sequence: Sequence) -> str:
        """A chat's last chunk of a choice: why it ended."""
        choice = f'{{"index":{index},"delta":{{"reasoning_content":null}},"logprobs":null,{self._ending(sequence)}}}'
        return self._chunk(sequence, choice, "")

    def text(self, index: int, sequence: Sequence, parts: list[str], echo: str) -> str:
        """A completion's next words; the last ones say why it ended."""
        text, ending = _dumps(echo + "".join(parts)), self._ending(sequence)
        choice = f'{{"index":{index},"text":{text},"logprobs":{self._logprobs(parts)},{ending}}}'
        return self._chunk(sequence, choice, self._continuous(sequence, False) or ',"usage":null')

    def usage(self) -> str:
        """The chunk that only reports usage."""
        usage = usage_of(self._run, self._cache_report)
        return self._chunk(self._run.sequences[0], "", f',"usage":{_dumps(usage)}')

    def _chunk(self, sequence: Sequence, choice: str, after: str) -> str:
        return f'data: {{"id":{_dumps(sequence.id)},{self._tail}{choice}]{after}}}\n\n'

    def _ending(self, sequence: Sequence) -> str:
        words = sequence.words
        return f'"finish_reason":{_dumps(words.finish_reason)},"matched_stop":{_dumps(words.matched_stop)}'

    def _continuous(self, sequence: Sequence, cache_report: bool) -> str:
        if not self._run.order.continuous_usage:
            return ""
        cached = sequence.cached_tokens if cache_report else None
        return f',"usage":{_dumps(_usage(sequence.prompt_tokens, sequence.words.tokens, cached))}'

    def _logprobs(self, parts: list[str]) -> str:
        top = self._run.order.top_logprobs
        return "null" if top is None or not parts else _dumps(_logprobs(self._run.order.chat, parts, top))


def _logprobs(chat: bool, parts: list[str], top: int) -> dict[str, Any]:
    """Log probabilities in the two endpoints' shapes; the numbers are made up, as the words are."""
    scored = [(part, -0.25 - (len(part) % 7) / 8) for part in parts]
    if chat:
        return {
            "content": [
                {"token": part, "bytes": list(part.encode()), "logprob": score, "top_logprobs": _top(part, score, top)}
                for part, score in scored
            ]
        }
    return {
        "text_offset": [-1] * len(scored),
        "token_logprobs": [score for _, score in scored],
        "tokens": [part for part, _ in scored],
        "top_logprobs": [{part: score} if top > 0 else None for part, score in scored],
    }


def _top(part: str, score: float, top: int) -> list[dict[str, Any]]:
    return [{"token": part, "bytes": list(part.encode()), "logprob": score}] if top > 0 else []
