"""What Python agents import: JSON in and out, model calls through the gateway as a stream, and the HTTP under it.

The standard library's own HTTP wants sockets, which agents do not have. `wasi:http` is what there is instead, and
componentize-py makes it importable as `wit_world`; this module is a thin layer over that and needs nothing else.
"""

import json
import os
import sys
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import outgoing_handler
from wit_world.imports import wasi_http_types as http
from wit_world.imports.streams import StreamError_Closed

# What the blocking write of wasi:io takes at once, in bytes.
_PIECE = 4096
_METHODS = {
    "GET": http.Method_Get, "HEAD": http.Method_Head, "POST": http.Method_Post, "PUT": http.Method_Put,
    "DELETE": http.Method_Delete, "OPTIONS": http.Method_Options, "PATCH": http.Method_Patch,
}


class AgentError(Exception):
    """Why an agent cannot answer, in words for whoever called it: no traceback, and exit status 1."""


class HttpError(AgentError):
    """There is no answer, or no whole one."""


class ModelError(AgentError):
    """What the gateway or a provider says instead of an answer."""

    def __init__(self, message, status=None):
        super().__init__(message)
        # The HTTP status, or None for an error inside of a stream.
        self.status = status


def agent(answer):
    """Makes a function from the input to the output the program: `Run = agent(answer)` at the top of the module.

    Input and output are JSON values; no input at all is None. What is printed goes to the log. An AgentError is logged
    as its message, any other exception with its traceback; both leave stdout empty and the exit status at 1.
    """

    class Run(exports.Run):
        def run(self):
            output, sys.stdout = sys.stdout, sys.stderr
            try:
                try:
                    value = json.loads(sys.stdin.read().strip() or "null")
                except ValueError as error:
                    raise AgentError(f"the input is not JSON: {error}") from error
                # Whole before the first byte is written: a value that fails half way leaves no half of a result.
                result = json.dumps(answer(value), ensure_ascii=False)
                output.write(result + "\n")
                output.flush()
            except AgentError as error:
                print(f"error: {error}", file=sys.stderr, flush=True)
                raise Err(None) from None
            except Exception:
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
                raise Err(None) from None

    return Run


class Chat:
    """The answer of a model while it arrives: iterate for its pieces of text, then read the rest.

    `text` is all of it so far, `model` who answered, `finish_reason` why it stopped (`stop`, `length`, …), and `usage`
    the tokens, as OpenAI's dialect has them; None where the provider did not say.
    """

    def __init__(self, body):
        self._body = body
        self.text, self.model, self.finish_reason, self.usage = "", None, None, None

    def __iter__(self):
        for data in _events(self._body):
            if data == "[DONE]":
                return
            chunk = json.loads(data)
            if chunk.get("error"):
                raise ModelError(_words(chunk, "the model's answer broke off"))
            self.model = chunk.get("model") or self.model
            self.usage = chunk.get("usage") or self.usage
            for choice in chunk.get("choices") or []:
                self.finish_reason = choice.get("finish_reason") or self.finish_reason
                text = (choice.get("delta") or {}).get("content")
                if text:
                    self.text += text
                    yield text
        raise ModelError("the model's answer was cut off: half an answer is none")


@contextmanager
def chat(messages, model="default", **options):
    """Asks a model through the gateway at `ORCH_LLM_URL`, in OpenAI's chat dialect: `with chat([…]) as answer:`.

    `default` is the first model of the run's plan for which there is a key; the gateway falls back to the next. The
    options are fields of the request (`max_tokens`, `temperature`, …).
    """
    body = {
        "model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}, **options,
    }
    headers = {"content-type": "application/json"}
    url = os.environ["ORCH_LLM_URL"] + "/chat/completions"
    with request("POST", url, headers, json.dumps(body).encode()) as (status, _, pieces):
        if status != 200:
            try:
                refusal = json.loads(b"".join(pieces))
            except ValueError:
                refusal = {}
            raise ModelError(_words(refusal, f"the gateway answered with status {status}"), status)
        yield Chat(pieces)


@contextmanager
def request(method, url, headers=None, body=b""):
    """Makes one request: `with request("GET", url) as (status, headers, pieces):`, where `pieces` are the bytes of the
    body as they arrive, and names of headers are lower case. Redirects are answers like any other.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise HttpError(f"not an address of HTTP: {url}")
    fields = [(name, value.encode()) for name, value in (headers or {}).items()]
    if body:
        fields.append(("content-length", str(len(body)).encode()))
    asked = http.OutgoingRequest(http.Fields.from_list(fields))
    asked.set_method(_METHODS[method]() if method in _METHODS else http.Method_Other(method))
    asked.set_scheme(http.Scheme_Https() if parts.scheme == "https" else http.Scheme_Http())
    asked.set_authority(parts.netloc)
    asked.set_path_with_query((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    sent = asked.body()
    try:
        future = outgoing_handler.handle(asked, None)
        _send(sent, body)
        with future:
            with future.subscribe() as ready:
                ready.block()
            # Ready, and asked for once: only what the HTTP library says can be an error.
            outcome = future.get().value
    except Err as error:
        raise HttpError(f"no answer from {parts.netloc}: {_named(error.value)}") from error
    if isinstance(outcome, Err):
        raise HttpError(f"no answer from {parts.netloc}: {_named(outcome.value)}")
    with outcome.value as response:
        with response.headers() as got:
            names = {name.lower(): value.decode("latin-1") for name, value in got.entries()}
        with closing(_pieces(response, parts.netloc)) as pieces:
            yield response.status(), names, pieces


def _send(sent, body):
    try:
        with sent.write() as stream:
            for at in range(0, len(body), _PIECE):
                stream.blocking_write_and_flush(body[at:at + _PIECE])
    except Err:
        # An answer may come before all was sent, a refusal for one; without an answer, the future says why.
        return
    http.OutgoingBody.finish(sent, None)


def _pieces(response, host):
    # A stream goes before the body that it reads, and that before the response.
    with response.consume() as body, body.stream() as stream:
        while True:
            try:
                piece = stream.blocking_read(1 << 16)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return
                raise HttpError(f"the answer of {host} broke off: {error.value.value.to_debug_string()}") from error
            yield piece


def _events(pieces):
    """The data of server-sent events. Lines are cut as bytes, so that no piece splits a character."""
    rest, data = b"", []
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            line = line.rstrip(b"\r").decode("utf-8", "replace")
            if line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
            elif not line and data:
                yield "\n".join(data)
                data = []


def _words(said, otherwise):
    error = said.get("error") if isinstance(said, dict) else None
    return (error.get("message") if isinstance(error, dict) else error) or otherwise


def _named(code):
    """`ErrorCode_HttpRequestDenied()` as `HttpRequestDenied`, and what an internal error says as it is."""
    return getattr(code, "value", None) or type(code).__name__.rpartition("_")[2]
