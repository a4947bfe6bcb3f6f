"""How a service is called, in curl, Python and Node, with everything filled in but the customer's key."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from domain.ids import OPERATOR_ACCOUNT

KEY_VARIABLE = "HYDRA_API_KEY"
AUTHORIZATION = f"Authorization: Bearer ${KEY_VARIABLE}"
PROMPT = "Say hello."


def endpoint_url(*, account: str, region: str, gateway_url: str, domain: str | None) -> str:
    """Where the service is called, with `/v1`. With a domain the host is the region's, or `chat` for shared models."""
    parts = urlsplit(gateway_url)
    host = parts.netloc
    if domain is not None:
        port = f":{parts.port}" if parts.port is not None else ""
        host = f"{'chat' if account == OPERATOR_ACCOUNT else region}.{domain}{port}"
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}/v1"


def call_examples(endpoint: str, access_path: str) -> dict[str, str]:
    """By language. The key is read from the environment, so that nobody pastes one into a file."""
    body = {"model": access_path, "messages": [{"role": "user", "content": PROMPT}]}
    curl = (
        f"curl {endpoint}/chat/completions \\\n"
        f'  -H "{AUTHORIZATION}" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d '{json.dumps(body)}'\n"
    )
    python = (
        "import os\n\n"
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{endpoint}", api_key=os.environ["{KEY_VARIABLE}"])\n'
        "answer = client.chat.completions.create(\n"
        f'    model="{access_path}",\n'
        f'    messages=[{{"role": "user", "content": "{PROMPT}"}}],\n'
        ")\n"
        "print(answer.choices[0].message.content)\n"
    )
    node = (
        'import OpenAI from "openai";\n\n'
        f'const client = new OpenAI({{ baseURL: "{endpoint}", apiKey: process.env.{KEY_VARIABLE} }});\n'
        "const answer = await client.chat.completions.create({\n"
        f'  model: "{access_path}",\n'
        f'  messages: [{{ role: "user", content: "{PROMPT}" }}],\n'
        "});\n"
        "console.log(answer.choices[0].message.content);\n"
    )
    return {"curl": curl, "python": python, "node": node}
