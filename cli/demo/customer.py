"""A customer: the official `openai` client against the gateway, noting the usage that each answer states."""

from __future__ import annotations

from openai import OpenAI

from cli.demo.tally import Tally

PROMPT = "In one sentence: why does an invoice have to be exact?"


class Customer:
    """Calls models with one key. Every call notes its usage in `tally` and returns the answer's text."""

    def __init__(self, gateway_url: str, key: str, tally: Tally) -> None:
        self._client = OpenAI(base_url=f"{gateway_url}/v1", api_key=key, max_retries=2, timeout=120)
        self._tally = tally

    def models(self) -> list[str]:
        """The access paths that this key can call now."""
        return [model.id for model in self._client.models.list()]

    def ask(self, model: str, max_tokens: int = 24) -> str:
        """One answer, not streamed."""
        answer = self._client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": PROMPT}], max_tokens=max_tokens
        )
        assert answer.usage is not None, "an answer always states its usage"
        self._tally.saw(model, answer.usage.prompt_tokens, answer.usage.completion_tokens)
        return answer.choices[0].message.content or ""

    def ask_streaming(self, model: str, max_tokens: int = 24) -> str:
        """One answer as a stream whose last chunk states the usage."""
        text = ""
        stream = self._client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": PROMPT}],
            max_tokens=max_tokens,
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in stream:
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
            if chunk.usage is not None:
                self._tally.saw(model, chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
        return text
