"""Anthropic's library for Python."""

import json

import anthropic

from .answer import Answer, Usage

NAME = "anthropic"
ERRORS = {
    "unauthorized": anthropic.AuthenticationError,
    "missing": anthropic.NotFoundError,
    "limited": anthropic.RateLimitError,
    "invalid": anthropic.BadRequestError,
    "stream": anthropic.APIError,
}


def client(url, token):
    return anthropic.Anthropic(api_key=token, base_url=url, max_retries=0, timeout=30)


def async_client(url, token):
    return anthropic.AsyncAnthropic(api_key=token, base_url=url, max_retries=0, timeout=30)


def user(text, png=None):
    content = [{"type": "text", "text": text}]
    if png is not None:
        source = {"type": "base64", "media_type": "image/png", "data": png}
        content.append({"type": "image", "source": source})
    return [{"role": "user", "content": content}]


def request(model, turns, tools=None, think=False):
    asked = {"model": model, "messages": turns, "max_tokens": 2048}
    if tools:
        asked["tools"] = [
            {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]}
            for tool in tools
        ]
    if think:
        asked["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    return asked


def ask(client, schema=None, **asked):
    messages = client.messages
    if schema:
        told = answer(messages.parse(output_format=schema, **request(**asked)))
    else:
        response = messages.with_raw_response.create(**request(**asked))
        told = answer(response.parse(), response)
    return told


def stream(client, **asked):
    with client.messages.stream(**request(**asked)) as stream:
        deltas = [event.text for event in stream if event.type == "text"]
        told = answer(stream.get_final_message())
    assert "".join(deltas) == told.text
    told.deltas = len(deltas)
    return told


def deltas(client, model, turns):
    """The pieces of a text as they come, and what closes the stream."""
    events = client.messages.create(model=model, messages=turns, max_tokens=99, stream=True)

    def texts():
        last = None
        for event in events:
            last = event.type
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield event.delta.text
        assert last == "message_stop", last

    return texts(), events.close


async def ask_async(client, **asked):
    return answer(await client.messages.create(**request(**asked)))


async def stream_async(client, **asked):
    async with client.messages.stream(**request(**asked)) as stream:
        pieces = [text async for text in stream.text_stream]
        told = answer(await stream.get_final_message())
    told.deltas = len(pieces)
    return told


def answer(message, response=None):
    def of(kind):
        return [block for block in message.content if block.type == kind]

    return Answer(
        text="".join(block.text for block in of("text")),
        stop={"end_turn": "stop", "tool_use": "tools"}[message.stop_reason],
        usage=counted(message.usage),
        calls=[(call.id, call.name, call.input) for call in of("tool_use")],
        thoughts="".join(block.thinking for block in of("thinking")),
        turns=[{"role": "assistant", "content": message.content}],
        parsed=getattr(message, "parsed_output", None),
        receipt=response and json.loads(response.headers["x-orch-receipt"]),
    )


def counted(usage):
    cached = usage.cache_read_input_tokens or 0
    return Usage(usage.input_tokens + cached, usage.output_tokens, cached)


def results(answer, outputs):
    blocks = [
        {"type": "tool_result", "tool_use_id": id, "content": outputs[name]} for id, name, _ in answer.calls
    ]
    return [{"role": "user", "content": blocks}]


def orphan():
    """A result of no call, and the field that is at fault."""
    block = {"type": "tool_result", "tool_use_id": "toolu_none", "content": "sunny"}
    return [{"role": "user", "content": [block]}], "messages[1].content[0].tool_use_id"


def wrong():
    """A turn that nobody takes, and the field that is at fault."""
    return [{"role": "king", "content": "x"}], "messages[0].role"


def status(error):
    return error.status_code


def blames(error, field):
    # Anthropic's errors name the field in their words.
    return field in error.body["error"]["message"]


def wait(error):
    return int(error.response.headers["retry-after"])
