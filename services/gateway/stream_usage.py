"""Usage out of an engine's answers: from a whole JSON body, and from a stream of server-sent events.

A stream passes through as it comes but for four things: an event cut by a read is held until it is whole, usage that
the client did not ask for is taken out, ids that the engine could not take from us are rewritten, and the last bytes
(`[DONE]`) are kept back until the request's end is on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import msgspec

if TYPE_CHECKING:
    from services.gateway.request_body import RequestBody

_DONE = b"data: [DONE]"
_USAGE = b'"usage":{'
_ERROR = b'data: {"error"'
_ID_FIRST = b'{"id":"'


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """As the engine reports it; `prompt_tokens_details` absent is not zero."""

    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: _Details | None = None

    @property
    def cached_tokens(self) -> int | None:
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None


class _Choice(msgspec.Struct):
    index: int = 0


class _Chunk(msgspec.Struct):
    usage: Usage | None = None
    choices: list[_Choice] = []


class _Whole(msgspec.Struct):
    usage: Usage | None = None


_whole = msgspec.json.Decoder(_Whole)
_chunk = msgspec.json.Decoder(_Chunk)


def usage_of(body: bytes) -> Usage | None:
    """The usage in a whole answer; None where it has none or is no JSON."""
    try:
        return _whole.decode(body).usage
    except msgspec.DecodeError:
        return None


def with_id(body: bytes, request_id: str) -> bytes:
    """The JSON object with its top-level `id` replaced."""
    if body.startswith(_ID_FIRST):
        # Ids hold no escapes, so the first quote ends it.
        end = body.index(b'"', len(_ID_FIRST))
        return b'{"id":"%b%b' % (request_id.encode(), body[end:])
    decoded: dict[str, Any] = msgspec.json.decode(body)
    decoded["id"] = request_id
    return msgspec.json.encode(decoded)


class StreamFilter:
    """Fed an engine's stream; gives what the client may have now.

    `usage` is the last that was seen. `held` is what must wait for the request's end. `error` is the engine's own
    error, sent as an event inside the stream. `too_large` once an event was more than may be held: it is left out, and
    what follows it is read on for its usage.
    """

    __slots__ = (
        "_event_bytes_max",
        "_keep_continuous",
        "_keep_usage",
        "_n",
        "_partial",
        "_per_choice",
        "_per_prompt",
        "_plain",
        "_request_id",
        "_skipping",
        "done",
        "error",
        "held",
        "too_large",
        "usage",
    )

    def __init__(
        self,
        *,
        keep_usage: bool,
        keep_continuous: bool,
        continuous: bool,
        n: int,
        rewrite_id: str | None,
        event_bytes_max: int,
    ) -> None:
        self._keep_usage = keep_usage
        self._keep_continuous = keep_continuous
        self._n = n
        self._request_id = rewrite_id
        self._event_bytes_max = event_bytes_max
        self._partial = b""
        self._skipping = False
        self._plain = rewrite_id is None and not continuous
        self._per_choice: dict[int, int] = {}
        self._per_prompt: dict[int, int] = {}
        self.usage: Usage | None = None
        self.held = b""
        self.done = False
        self.too_large = False
        self.error: bytes | None = None

    @classmethod
    def of(cls, body: RequestBody, rewrite_id: str | None, event_bytes_max: int) -> Self:
        """The filter for the answer to this request."""
        return cls(
            keep_usage=body.include_usage,
            keep_continuous=body.include_usage and body.continuous_usage,
            continuous=body.n > 1 or body.continuous_usage,
            n=body.n,
            rewrite_id=rewrite_id,
            event_bytes_max=event_bytes_max,
        )

    def feed(self, data: bytes) -> bytes:
        """What goes on to the client now."""
        if self._partial:
            data = self._partial + data
            self._partial = b""
            if self._skipping:
                data = self._after_the_skipped(data)
        if (
            self._plain
            and not self.done
            and data.endswith(b"\n\n")
            and _USAGE not in data
            and _DONE not in data
            and _ERROR not in data
        ):
            return data
        cut = data.rfind(b"\n\n") + 2
        if cut == 1:
            cut = 0
        if cut < len(data):
            self._partial = data[cut:]
            if len(self._partial) > self._event_bytes_max:
                self.too_large = self._skipping = True
                self._partial = self._partial[-1:]
        if not cut:
            return b""
        return b"".join([self._event(event + b"\n\n") for event in data[: cut - 2].split(b"\n\n")])

    def _after_the_skipped(self, data: bytes) -> bytes:
        """What follows the event that is left out; until its end has come its last byte is kept, which may begin it."""
        end = data.find(b"\n\n")
        if end < 0:
            self._partial = data[-1:]
            return b""
        self._skipping = False
        return data[end + 2 :]

    def _event(self, event: bytes) -> bytes:
        if self.done or event.startswith(_DONE):
            self.done = True
            self.held += event
            return b""
        if event.startswith(_ERROR):
            self.error = event[6:].strip()
            return b""
        if not event.startswith(b"data: {"):
            return event
        if _USAGE in event:
            kept = self._metered(event)
            if kept is None:
                return b""
            event = kept
        if self._request_id is not None:
            event = b"data: %b\n\n" % with_id(event[6:].strip(), self._request_id)
        return event

    def _metered(self, event: bytes) -> bytes | None:
        """Note the event's usage; give the event as the client asked for it, None where it was only for us."""
        body = event[6:].strip()
        try:
            chunk = _chunk.decode(body)
        except msgspec.DecodeError:
            return event
        if chunk.usage is None:
            return event  # the marker stood inside something else
        if not chunk.choices:
            self.usage = chunk.usage
            return event if self._keep_usage else None
        self._sum(chunk.choices[0].index, chunk.usage)
        if self._keep_continuous:
            return event
        decoded: dict[str, Any] = msgspec.json.decode(body)
        decoded["usage"] = None
        return b"data: %b\n\n" % msgspec.json.encode(decoded)

    def _sum(self, index: int, usage: Usage) -> None:
        """Continuous usage is per choice: each prompt counts once, completions add up."""
        self._per_choice[index] = usage.completion_tokens or 0
        self._per_prompt[index // self._n] = usage.prompt_tokens
        self.usage = Usage(
            prompt_tokens=sum(self._per_prompt.values()), completion_tokens=sum(self._per_choice.values())
        )
