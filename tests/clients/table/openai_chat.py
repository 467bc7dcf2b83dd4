"""OpenAI's library for Python, asking for chat completions."""

import json

import openai

from .answer import Answer, Usage

NAME = "openai-chat"
ERRORS = {
    "unauthorized": openai.AuthenticationError,
    "missing": openai.NotFoundError,
    "limited": openai.RateLimitError,
    "invalid": openai.BadRequestError,
    "stream": openai.APIError,
}


def client(url, token):
    return openai.OpenAI(api_key=token, base_url=url + "/v1", max_retries=0, timeout=30)


def async_client(url, token):
    return openai.AsyncOpenAI(api_key=token, base_url=url + "/v1", max_retries=0, timeout=30)


def user(text, png=None):
    if png is None:
        return [{"role": "user", "content": text}]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + png}}
    return [{"role": "user", "content": [{"type": "text", "text": text}, image]}]


def request(model, turns, tools=None, think=False):
    asked = {"model": model, "messages": turns}
    if tools:
        asked["tools"] = [{"type": "function", "function": tool} for tool in tools]
    if think:
        asked["reasoning_effort"] = "low"
    return asked


def ask(client, schema=None, **asked):
    completions = client.chat.completions
    if schema:
        response = completions.with_raw_response.parse(response_format=schema, **request(**asked))
    else:
        response = completions.with_raw_response.create(**request(**asked))
    return answer(response.parse(), response)


def stream(client, **asked):
    options = {"include_usage": True}
    with client.chat.completions.stream(stream_options=options, **request(**asked)) as events:
        deltas = [event.delta for event in events if event.type == "content.delta"]
        final = events.get_final_completion()
    told = answer(final)
    assert "".join(deltas) == told.text
    told.deltas = len(deltas)
    return told


def deltas(client, model, turns):
    """The pieces of a text as they come, and what closes the stream."""
    chunks = client.chat.completions.create(model=model, messages=turns, stream=True)
    texts = (choice.delta.content for chunk in chunks for choice in chunk.choices)
    return (text for text in texts if text), chunks.close


async def ask_async(client, **asked):
    return answer(await client.chat.completions.create(**request(**asked)))


async def stream_async(client, **asked):
    async with client.chat.completions.stream(**request(**asked)) as events:
        pieces = [event.delta async for event in events if event.type == "content.delta"]
        told = answer(await events.get_final_completion(), usage=False)
    told.deltas = len(pieces)
    return told


def embed(client, model, texts, dimensions=None):
    """The vectors, and the tokens of the texts."""
    more = {} if dimensions is None else {"dimensions": dimensions}
    # The library asks for base64, and reads it.
    answer = client.embeddings.create(model=model, input=texts, **more)
    assert [item.index for item in answer.data] == list(range(len(texts)))
    return [item.embedding for item in answer.data], answer.usage.prompt_tokens


def answer(completion, response=None, usage=True):
    [choice] = completion.choices
    message = choice.message
    calls = [
        (call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []
    ]
    return Answer(
        text=message.content or "",
        stop={"stop": "stop", "tool_calls": "tools"}[choice.finish_reason],
        usage=counted(completion.usage) if usage else None,
        calls=calls,
        # Not OpenAI's, but of many who speak like it: the library keeps what it does not know.
        thoughts=getattr(message, "reasoning_content", None) or "",
        turns=[message],
        parsed=getattr(message, "parsed", None),
        receipt=response and json.loads(response.headers["x-orch-receipt"]),
    )


def counted(usage):
    return Usage(
        usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details.cached_tokens,
        usage.completion_tokens_details.reasoning_tokens,
    )


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
    return error.param == field


def wait(error):
    return int(error.response.headers["retry-after"])
