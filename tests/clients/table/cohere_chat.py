"""Cohere's library for Python, in its second version's way of asking."""

import json

import cohere
from cohere.core.api_error import ApiError

from .answer import Answer, Usage

NAME = "cohere"


class Failed(Exception):
    """The library tells a failure inside of a stream by its reason to finish, and raises nothing."""


ERRORS = {
    "unauthorized": cohere.UnauthorizedError,
    "missing": cohere.NotFoundError,
    "limited": cohere.TooManyRequestsError,
    "invalid": cohere.BadRequestError,
    "stream": (ApiError, Failed),
}


def client(url, token):
    return cohere.ClientV2(token, base_url=url, timeout=30, max_retries=0)


def async_client(url, token):
    return cohere.AsyncClientV2(token, base_url=url, timeout=30, max_retries=0)


def user(text, png=None):
    content = [{"type": "text", "text": text}]
    if png is not None:
        content.append({"type": "image_url", "image_url": {"url": "data:image/png;base64," + png}})
    return [{"role": "user", "content": content}]


def request(model, turns, tools=None, think=False, schema=None):
    asked = {"model": model, "messages": turns}
    if tools:
        asked["tools"] = [{"type": "function", "function": tool} for tool in tools]
    if think:
        asked["thinking"] = {"type": "enabled", "token_budget": 1024}
    if schema:
        asked["response_format"] = {"type": "json_object", "json_schema": schema.model_json_schema()}
    return asked


def ask(client, schema=None, **asked):
    response = client.with_raw_response.chat(**request(schema=schema, **asked))
    told = answer(response.data)
    told.receipt = json.loads(response.headers["x-orch-receipt"])
    if schema:
        told.parsed = schema.model_validate_json(told.text)
    return told


def stream(client, **asked):
    parts = Parts()
    for event in client.chat_stream(**request(**asked)):
        parts.hear(event)
    return parts.answer()


def deltas(client, model, turns):
    """The pieces of a text as they come, and what closes the stream."""
    events = client.chat_stream(model=model, messages=turns)

    def texts():
        finish = "nothing"
        for event in events:
            if event.type == "content-delta":
                yield event.delta.message.content.text
            if event.type == "message-end":
                finish = event.delta.finish_reason
        if finish != "COMPLETE":
            raise Failed(finish)

    return texts(), events.close


async def ask_async(client, **asked):
    return answer(await client.chat(**request(**asked)))


async def stream_async(client, **asked):
    parts = Parts()
    async for event in client.chat_stream(**request(**asked)):
        parts.hear(event)
    return parts.answer()


def embed(client, model, texts, dimensions=None):
    """The vectors, and the tokens of the texts."""
    more = {} if dimensions is None else {"output_dimension": dimensions}
    kinds = {"input_type": "search_document", "embedding_types": ["float"]}
    answer = client.embed(model=model, texts=texts, **kinds, **more)
    return answer.embeddings.float_, int(answer.meta.billed_units.input_tokens)


class Parts:
    """A message, put together: the library leaves that to its user."""

    def __init__(self):
        self.texts, self.plan, self.thoughts, self.calls, self.end = [], [], "", [], None

    def hear(self, event):
        message = event.delta.message if getattr(event, "delta", None) and event.type != "message-end" else None
        match event.type:
            case "content-delta":
                self.thoughts += message.content.thinking or ""
                if message.content.text:
                    self.texts.append(message.content.text)
            case "tool-plan-delta":
                self.plan.append(message.tool_plan)
            case "tool-call-start":
                call = message.tool_calls
                self.calls.append([call.id, call.function.name, call.function.arguments or ""])
            case "tool-call-delta":
                self.calls[-1][2] += message.tool_calls.function.arguments
            case "message-end":
                self.end = event.delta

    def answer(self):
        calls = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in self.calls
        ]
        text, plan = "".join(self.texts), "".join(self.plan)
        said = {"tool_plan": plan, "tool_calls": calls} if calls else {"content": text}
        return Answer(
            text=text or plan,
            stop={"COMPLETE": "stop", "TOOL_CALL": "tools"}[self.end.finish_reason],
            usage=counted(self.end.usage),
            calls=[(id, name, json.loads(arguments)) for id, name, arguments in self.calls],
            thoughts=self.thoughts,
            deltas=len(self.texts),
            turns=[{"role": "assistant", **said}],
        )


def answer(response):
    message = response.message
    content = message.content or []
    return Answer(
        text="".join(part.text for part in content if part.type == "text") or message.tool_plan or "",
        stop={"COMPLETE": "stop", "TOOL_CALL": "tools"}[response.finish_reason],
        usage=counted(response.usage),
        calls=[
            (call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []
        ],
        thoughts="".join(part.thinking for part in content if part.type == "thinking"),
        turns=[message],
    )


def counted(usage):
    # Those beside it count what Cohere adds itself.
    billed = usage.billed_units
    return Usage(int(billed.input_tokens), int(billed.output_tokens), int(usage.cached_tokens or 0))


def results(answer, outputs):
    return [{"role": "tool", "tool_call_id": id, "content": outputs[name]} for id, name, _ in answer.calls]


def orphan():
    """A result of no call, and the field that is at fault."""
    return [{"role": "tool", "tool_call_id": "call_none", "content": "sunny"}], "messages[1].tool_call_id"


def wrong():
    """A turn that nobody takes, and the field that is at fault."""
    return [{"role": "king", "content": "x"}], "messages[0].role"


def status(error):
    return error.status_code


def blames(error, field):
    # Cohere's errors name the field in their words.
    return field in error.body["message"]


def wait(error):
    return int(error.headers["retry-after"])
