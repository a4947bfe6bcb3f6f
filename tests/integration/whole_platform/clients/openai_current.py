"""The newest `openai` for Python."""

import json
import sys

import openai

base_url, facts = sys.argv[1], json.loads(sys.argv[2])
client = openai.OpenAI(base_url=base_url, api_key=facts["key"], max_retries=0)
model = facts["model"]
messages = [{"role": "user", "content": "Say hello."}]
seen: dict[str, object] = {}


def error_of(call, **changed) -> dict[str, object]:
    try:
        call(**changed)
    except openai.APIStatusError as error:
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "type": error.type,
            "message": error.message,
        }
    return {"class": None}


def chat(key=None, model=model, **fields):
    caller = client if key is None else client.with_options(api_key=key)
    return caller.chat.completions.create(model=model, **{"messages": messages, "max_tokens": 8, **fields})


def troubled(model):
    caller = client.with_options(base_url=facts["troubled_url"] + "/v1", api_key=facts["troubled_key"])
    return error_of(caller.chat.completions.create, model=model, messages=messages, max_tokens=8)


answer = chat()
seen["chat"] = answer.model_dump(mode="json")
chunks = list(chat(stream=True, stream_options={"include_usage": True}))
seen["chat_stream"] = [chunk.model_dump(mode="json") for chunk in chunks]
seen["chat_stream_plain"] = [chunk.model_dump(mode="json") for chunk in chat(stream=True)]
seen["several"] = chat(n=2).model_dump(mode="json")
completion = client.completions.create(model=model, prompt=["Once", "Twice upon"], max_tokens=5)
seen["completion"] = completion.model_dump(mode="json")
stream = client.completions.create(model=model, prompt="Once", max_tokens=5, stream=True)
seen["completion_stream"] = [chunk.model_dump(mode="json") for chunk in stream]
seen["models"] = [entry.model_dump(mode="json") for entry in client.models.list()]
seen["model"] = client.models.retrieve(model).model_dump(mode="json")
seen["errors"] = {
    "no_key": error_of(chat, extra_headers={"Authorization": openai.Omit()}),
    "wrong_key": error_of(chat, key="sk-" + "x" * 43),
    "revoked_key": error_of(chat, key=facts["revoked_key"]),
    "without_scope": error_of(chat, key=facts["unscoped_key"]),
    "spend_limit": error_of(chat, key=facts["limited_key"]),
    "unknown_model": error_of(chat, model="public/no-such-model"),
    "foreign_model": error_of(chat, model=facts["foreign_model"]),
    "deploying": error_of(chat, model=facts["deploying_model"]),
    "wrong_type": error_of(chat, messages="hello"),
    "out_of_range": error_of(chat, temperature=-1),
    "refused_field": error_of(chat, extra_body={"lora_path": "/etc/passwd"}),
    "silent_engine": troubled(facts["silent_model"]),
    "lost_engine": troubled(facts["breaking_model"]),
    "no_instance": troubled(facts["gone_model"]),
    "too_large": error_of(chat, messages=[{"role": "user", "content": "x" * 20_000_000}]),
    "unknown_model_retrieved": error_of(lambda: client.models.retrieve("public/no-such-model")),
}
print(json.dumps(seen))
