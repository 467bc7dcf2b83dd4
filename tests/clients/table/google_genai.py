"""Google's library for Python."""

import base64
import json

from google import genai
from google.genai import errors, types

from .answer import Answer, Usage

NAME = "google-genai"
# Google has no 401 for a key that is none.
STATUSES = {"unauthorized": 400}
ERRORS = {
    "unauthorized": errors.ClientError,
    "missing": errors.ClientError,
    "limited": errors.ClientError,
    "invalid": errors.ClientError,
    "stream": errors.APIError,
}


def client(url, token):
    return genai.Client(api_key=token, http_options=types.HttpOptions(base_url=url, timeout=30_000))


def async_client(url, token):
    return client(url, token).aio


def user(text, png=None):
    parts = [types.Part.from_text(text=text)]
    if png is not None:
        parts.append(types.Part.from_bytes(data=base64.b64decode(png), mime_type="image/png"))
    return [types.Content(role="user", parts=parts)]


def request(model, turns, tools=None, think=False, schema=None):
    # Functions are called by whoever asks, not by the library.
    config = {"automatic_function_calling": types.AutomaticFunctionCallingConfig(disable=True)}
    if tools:
        declared = [
            types.FunctionDeclaration(
                name=tool["name"], description=tool["description"], parameters_json_schema=tool["parameters"]
            )
            for tool in tools
        ]
        config["tools"] = [types.Tool(function_declarations=declared)]
    if think:
        config["thinking_config"] = types.ThinkingConfig(include_thoughts=True, thinking_budget=1024)
    if schema:
        config["response_mime_type"] = "application/json"
        config["response_schema"] = schema
    return {"model": model, "contents": turns, "config": types.GenerateContentConfig(**config)}


def ask(client, **asked):
    response = client.models.generate_content(**request(**asked))
    told = answer([response])
    told.parsed = response.parsed
    told.receipt = json.loads(response.sdk_http_response.headers["x-orch-receipt"])
    return told


def stream(client, **asked):
    return answer(list(client.models.generate_content_stream(**request(**asked))))


def deltas(client, model, turns):
    """The pieces of a text as they come, and what closes the stream."""
    chunks = client.models.generate_content_stream(model=model, contents=turns)

    def texts():
        finish = None
        for chunk in chunks:
            finish = chunk.candidates[0].finish_reason
            if chunk.text:
                yield chunk.text
        assert finish == types.FinishReason.STOP, finish

    return texts(), chunks.close


async def ask_async(client, **asked):
    return answer([await client.models.generate_content(**request(**asked))])


async def stream_async(client, **asked):
    return answer([chunk async for chunk in await client.models.generate_content_stream(**request(**asked))])


def embed(client, model, texts, dimensions=None):
    """The vectors; the tokens are not told here."""
    config = types.EmbedContentConfig(output_dimensionality=dimensions)
    answer = client.models.embed_content(model=model, contents=texts, config=config)
    return [embedding.values for embedding in answer.embeddings], None


def answer(chunks):
    """Of a whole answer, or of the chunks of one: the library leaves it to its user to put them together."""
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts or []]
    said = [part for part in parts if part.text and not part.thought]
    calls = [part.function_call for part in parts if part.function_call]
    last = chunks[-1]
    assert last.candidates[0].finish_reason == types.FinishReason.STOP, last
    return Answer(
        text="".join(part.text for part in said),
        stop="tools" if calls else "stop",
        usage=counted(last.usage_metadata),
        calls=[(call.id, call.name, call.args) for call in calls],
        thoughts="".join(part.text for part in parts if part.text and part.thought),
        deltas=len(said),
        turns=[types.Content(role="model", parts=[part for part in parts if part.text or part.function_call])],
    )


def counted(usage):
    thoughts = usage.thoughts_token_count or 0
    return Usage(
        usage.prompt_token_count, (usage.candidates_token_count or 0) + thoughts,
        usage.cached_content_token_count or 0, thoughts,
    )


def results(answer, outputs):
    parts = []
    for id, name, _ in answer.calls:
        response = types.FunctionResponse(id=id, name=name, response={"output": outputs[name]})
        parts.append(types.Part(function_response=response))
    return [types.Content(role="user", parts=parts)]


def orphan():
    """A result of no call, and the field that is at fault."""
    response = types.FunctionResponse(name="forecast", response={"output": "sunny"})
    part = types.Part(function_response=response)
    return [types.Content(role="user", parts=[part])], "contents[1].parts[0].functionResponse"


def wrong():
    """A turn that nobody takes, and the field that is at fault."""
    return [types.Content(role="king", parts=[types.Part(text="x")])], "contents[0].role"


def status(error):
    return error.code


def blames(error, field):
    # Google's errors name the field in their words.
    return field in error.message


def wait(error):
    return int(error.response.headers["retry-after"])
