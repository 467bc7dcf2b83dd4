"""What an agent in Python sees and may do: calls a provider itself with what it takes for the key."""

import json
import os

from orch_sdk import agent, request


def probe(_):
    key = os.environ["OPENAI_API_KEY"]
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Who keeps the keys?"}]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    url = "https://api.openai.com/v1/chat/completions"
    with request("POST", url, headers, json.dumps(body).encode()) as (status, _, pieces):
        answer = json.loads(b"".join(pieces))
    return {"status": status, "answer": answer, "key": key, "environment": dict(os.environ)}


Run = agent(probe)
