"""`openai` 0.28: module-level calls and an `api_base` that lacks /v1."""

import json
import sys

import openai

base_url, facts = sys.argv[1], json.loads(sys.argv[2])
openai.api_base = base_url
openai.api_key = facts["key"]
model = facts["model"]
messages = [{"role": "user", "content": "Say hello."}]
seen: dict[str, object] = {}


def error_of(call, **changed) -> dict[str, object]:
    try:
        call(**changed)
    except openai.error.OpenAIError as error:
        return {"class": type(error).__name__, "status": error.http_status, "code": error.code, "message": str(error)}
    return {"class": None}


def chat(model=model, **fields):
    return openai.ChatCompletion.create(model=model, **{"messages": messages, "max_tokens": 8, **fields})


def troubled(model):
    return error_of(chat, api_base=facts["troubled_url"], api_key=facts["troubled_key"], model=model)


seen["chat"] = chat().to_dict_recursive()
seen["chat_stream_plain"] = [chunk.to_dict_recursive() for chunk in chat(stream=True)]
seen["completion"] = openai.Completion.create(model=model, prompt="Once", max_tokens=5).to_dict_recursive()
seen["completion_stream"] = [
    chunk.to_dict_recursive()
    for chunk in openai.Completion.create(model=model, prompt="Once", max_tokens=5, stream=True)
]
seen["models"] = openai.Model.list().to_dict_recursive()["data"]
seen["model"] = openai.Model.retrieve(model).to_dict_recursive()
seen["errors"] = {
    "wrong_key": error_of(chat, api_key="sk-" + "x" * 43),
    "revoked_key": error_of(chat, api_key=facts["revoked_key"]),
    "without_scope": error_of(chat, api_key=facts["unscoped_key"]),
    "unknown_model": error_of(chat, model="public/no-such-model"),
    "deploying": error_of(chat, model=facts["deploying_model"]),
    "out_of_range": error_of(chat, temperature=-1),
    "silent_engine": troubled(facts["silent_model"]),
    "lost_engine": troubled(facts["breaking_model"]),
    "no_instance": troubled(facts["gone_model"]),
}
print(json.dumps(seen))
