"""Ollama's library for Python."""


import contextlib

import ollama

from .answer import Answer, Usage

NAME = "ollama"
ERRORS = dict.fromkeys(["unauthorized", "missing", "limited", "invalid", "stream"], ollama.ResponseError)


def client(url, token):
    return ollama.Client(host=url, headers={"authorization": f"Bearer {token}"}, timeout=30)


@contextlib.asynccontextmanager
async def async_client(url, token):
    client = ollama.AsyncClient(host=url, headers={"authorization": f"Bearer {token}"}, timeout=30)
    try:
        yield client
    finally:
        await client.close()


def user(text, png=None):
    turn = {"role": "user", "content": text}
    if png is not None:
        turn["images"] = [png]
    return [turn]


def request(model, turns, tools=None, think=False, schema=None):
    asked = {"model": model, "messages": turns}
    if tools:
        asked["tools"] = [{"type": "function", "function": tool} for tool in tools]
    if think:
        asked["think"] = "low"
    if schema:
        asked["format"] = schema.model_json_schema()
    return asked


def ask(client, schema=None, **asked):
    told = answer([client.chat(**request(schema=schema, **asked))])
    if schema:
        told.parsed = schema.model_validate_json(told.text)
    return told


def stream(client, **asked):
    return answer(list(client.chat(stream=True, **request(**asked))))


def deltas(client, model, turns):
    """The pieces of a text as they come, and what closes the stream."""
    lines = client.chat(model=model, messages=turns, stream=True)

    def texts():
        done = False
        for line in lines:
            done = line.done
            if line.message.content:
                yield line.message.content
        assert done

    return texts(), lines.close


async def ask_async(client, **asked):
    return answer([await client.chat(**request(**asked))])


async def stream_async(client, **asked):
    return answer([line async for line in await client.chat(stream=True, **request(**asked))])


def embed(client, model, texts, dimensions=None):
    """The vectors, and the tokens of the texts."""
    answer = client.embed(model=model, input=texts, dimensions=dimensions)
    return [list(vector) for vector in answer.embeddings], answer.prompt_eval_count


def answer(lines):
    """Of a whole answer, or of the lines of one: the library leaves it to its user to put them together."""
    calls = [call for line in lines for call in line.message.tool_calls or []]
    texts = [line.message.content for line in lines if line.message.content]
    last = lines[-1]
    assert last.done and last.done_reason == "stop", last
    turn = {"role": "assistant", "content": "".join(texts)}
    if calls:
        turn["tool_calls"] = calls
    return Answer(
        text=turn["content"],
        stop="tools" if calls else "stop",
        usage=Usage(last.prompt_eval_count, last.eval_count, None),
        # Calls have no ids here.
        calls=[(None, call.function.name, dict(call.function.arguments)) for call in calls],
        thoughts="".join(line.message.thinking or "" for line in lines),
        deltas=len(texts),
        turns=[turn],
    )


def results(answer, outputs):
    return [{"role": "tool", "tool_name": name, "content": outputs[name]} for _, name, _ in answer.calls]


def orphan():
    """A result of no call, and the field that is at fault."""
    return [{"role": "tool", "tool_name": "forecast", "content": "sunny"}], "messages[1].role"


def wrong():
    """A turn that nobody takes, and the field that is at fault."""
    return [{"role": "king", "content": "x"}], "messages[0].role"


def status(error):
    return error.status_code


def blames(error, field):
    # Ollama's errors name the field in their words.
    return field in error.error


def wait(error):
    """The library keeps no headers."""
    return None
