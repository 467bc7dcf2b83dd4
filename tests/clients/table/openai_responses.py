"""OpenAI's library for Python, asking for responses."""

import json

import openai

from . import openai_chat
from .answer import Answer, Usage

NAME = "openai-responses"
# A stream that says nothing of its end is one that the library has no final response of.
ERRORS = {**openai_chat.ERRORS, "stream": (openai.APIError, RuntimeError)}
client, async_client = openai_chat.client, openai_chat.async_client
status, blames, wait = openai_chat.status, openai_chat.blames, openai_chat.wait


def user(text, png=None):
    content = [{"type": "input_text", "text": text}]
    if png is not None:
        content.append({"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64," + png})
    return [{"role": "user", "content": content}]


def request(model, turns, tools=None, think=False):
    asked = {"model": model, "input": turns}
    if tools:
        asked["tools"] = [{"type": "function", "strict": False, **tool} for tool in tools]
    if think:
        asked["reasoning"] = {"effort": "low", "summary": "auto"}
    return asked


def ask(client, schema=None, **asked):
    responses = client.responses
    if schema:
        response = responses.with_raw_response.parse(text_format=schema, **request(**asked))
    else:
        response = responses.with_raw_response.create(**request(**asked))
    return answer(response.parse(), response)


def stream(client, **asked):
    with client.responses.stream(**request(**asked)) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    told = answer(final)
    assert "".join(deltas) == told.text
    told.deltas = len(deltas)
    return told


def deltas(client, model, turns):
    """The pieces of a text as they come, and what closes the stream."""
    events = client.responses.create(model=model, input=turns, stream=True)

    def texts():
        last = None
        for event in events:
            last = event.type
            if event.type == "response.output_text.delta":
                yield event.delta
        if last != "response.completed":
            # OpenAI's own error events are told, not raised.
            raise RuntimeError(f"the stream ended with {last}")

    return texts(), events.close


async def ask_async(client, **asked):
    return answer(await client.responses.create(**request(**asked)))


async def stream_async(client, **asked):
    async with client.responses.stream(**request(**asked)) as stream:
        pieces = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        told = answer(await stream.get_final_response())
    told.deltas = len(pieces)
    return told


def answer(response, raw=None):
    assert response.status == "completed", response.status
    calls = [item for item in response.output if item.type == "function_call"]
    thoughts = [item for item in response.output if item.type == "reasoning"]
    return Answer(
        text=response.output_text,
        stop="tools" if calls else "stop",
        usage=counted(response.usage),
        calls=[(call.call_id, call.name, json.loads(call.arguments)) for call in calls],
        thoughts="".join(part.text for item in thoughts for part in item.summary),
        turns=list(response.output),
        parsed=getattr(response, "output_parsed", None),
        receipt=raw and json.loads(raw.headers["x-orch-receipt"]),
    )


def counted(usage):
    return Usage(
        usage.input_tokens, usage.output_tokens, usage.input_tokens_details.cached_tokens,
        usage.output_tokens_details.reasoning_tokens,
    )


def results(answer, outputs):
    return [
        {"type": "function_call_output", "call_id": id, "output": outputs[name]} for id, name, _ in answer.calls
    ]


def orphan():
    """A result of no call, and the field that is at fault."""
    return [{"type": "function_call_output", "call_id": "call_none", "output": "sunny"}], "input[1].call_id"


def wrong():
    """A turn that nobody takes, and the field that is at fault."""
    return [{"role": "king", "content": "x"}], "input[0].role"
