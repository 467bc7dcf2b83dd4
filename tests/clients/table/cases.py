"""What each client does with each provider. A case takes the row that it is run for, and fails as tests do."""

import functools
import json
import pathlib
import uuid

import pydantic

TABLE = json.loads(pathlib.Path(__file__).parent.parent.joinpath("table.json").read_text())
QUESTION = "Who keeps the keys?"


class Structured(pydantic.BaseModel):
    answer: str
    count: int


@functools.cache
def client(library, url, token):
    """One for all rows: making one takes longer than most of them."""
    return library.client(url, token)


class Row:
    """A client at a provider."""

    def __init__(self, test, stage, library, provider):
        self.test, self.stage, self.library, self.provider = test, stage, library, provider
        self.model = TABLE["providers"][provider]["model"]
        # Its name without the dialect that it is asked in.
        self.slug = self.model.split("/")[0].removesuffix("-responses")
        self.client = client(library, stage.url, stage.token)

    def ask(self, turns=None, **more):
        return self.library.ask(self.client, model=self.model, turns=turns or self.library.user(QUESTION), **more)

    def stream(self, turns=None, **more):
        return self.library.stream(self.client, model=self.model, turns=turns or self.library.user(QUESTION), **more)

    def deltas(self, prompt):
        return self.library.deltas(self.client, self.model, self.library.user(prompt))

    def check_usage(self, usage, reasoning=0):
        told = self.stage.told["usage"]
        cached = TABLE["providers"][self.provider].get("cached", told["cached"])
        self.test.assertEqual((usage.input, usage.output), (told["input"], told["output"]))
        if usage.cached is not None:
            self.test.assertEqual(usage.cached, cached)
        if usage.reasoning is not None:
            self.test.assertEqual(usage.reasoning, reasoning)

    def check_answer(self, answer):
        self.test.assertEqual((answer.text, answer.stop, answer.calls), (self.stage.says, "stop", []))
        self.check_usage(answer.usage)

    def refuses(self, kind, status, asked):
        with self.test.assertRaises(self.library.ERRORS[kind]) as raised:
            asked()
        status = getattr(self.library, "STATUSES", {}).get(kind, status)
        self.test.assertEqual(self.library.status(raised.exception), status)
        return raised.exception


def chat(row):
    answer = row.ask()
    row.check_answer(answer)
    if answer.receipt:
        row.test.assertEqual(answer.receipt["provider"], row.slug)


def stream(row):
    answer = row.stream()
    row.check_answer(answer)
    row.test.assertGreater(answer.deltas, 1)


def deltas(row):
    """The second piece is not sent before the first has been read."""
    token = uuid.uuid4().hex
    texts, _ = row.deltas(f"play:slow:{token}")
    first = next(texts)
    row.stage.wings(f"/go/{token}")
    row.test.assertEqual(first + "".join(texts), row.stage.says)
    row.test.assertLess(len(first), len(row.stage.says))


def tools(row, ask=None, think=False):
    ask = ask or row.ask
    question = row.library.user(QUESTION)
    first = ask(question, tools=TABLE["tools"], think=think)
    row.test.assertEqual((first.stop, first.text), ("tools", row.stage.told["plan"]))
    row.test.assertEqual([[name, arguments] for _, name, arguments in first.calls], TABLE["calls"])
    turns = question + first.turns + row.library.results(first, TABLE["results"])
    second = ask(turns, tools=TABLE["tools"], think=think)
    row.test.assertEqual((second.stop, second.text), ("stop", TABLE["answered"]))


def tools_streamed(row):
    tools(row, row.stream)


def thinks_with_tools(row):
    """Thoughts, where there are any, go back with the calls that follow from them."""
    tools(row, row.ask, think=True)
    tools(row, row.stream, think=True)


def structured(row):
    answer = row.ask(schema=Structured)
    row.test.assertEqual(answer.parsed, Structured(answer=row.stage.says, count=3))


def image(row):
    answer = row.ask(row.library.user("What is this?", TABLE["png"]))
    size = len(TABLE["png"]) * 3 // 4 - TABLE["png"].count("=")
    row.test.assertEqual(answer.text, f"I see a picture of {size} bytes.")


def reasoning(row, ask=None):
    answer = (ask or row.ask)(think=True)
    kind = TABLE["reasoning"][row.library.NAME][row.provider]
    row.test.assertEqual(answer.text, row.stage.says)
    row.test.assertEqual(answer.thoughts, row.stage.told["thoughts"] if kind == "shown" else "")
    # Not every provider tells the tokens of thoughts apart.
    tells = row.provider in ("openai", "openai-responses", "compat", "gemini") and kind != "dropped"
    row.check_usage(answer.usage, row.stage.told["usage"]["reasoning"] if tells else 0)
    if answer.receipt and kind == "dropped":
        row.test.assertGreater(answer.receipt["dropped"], 0)


def reasoning_streamed(row):
    reasoning(row, row.stream)


def unauthorized(row):
    """The provider rejects the workspace's key."""
    try:
        row.refuses("unauthorized", 401, lambda: row.ask(row.library.user("play:unauthorized")))
    finally:
        row.stage.forget(row.slug)


def missing(row):
    try:
        row.refuses("missing", 404, lambda: row.ask(row.library.user("play:missing")))
    finally:
        row.stage.forget(row.slug)


def limited(row):
    for ask in [row.ask, row.stream]:
        try:
            error = row.refuses("limited", 429, lambda: ask(row.library.user("play:limited")))
            wait = row.library.wait(error)
            told = row.stage.told["wait"]
            row.test.assertTrue(wait is None or told - 60 < wait <= told, wait)
        finally:
            row.stage.forget(row.slug)


def invalid(row):
    """The provider refuses the request."""
    row.refuses("invalid", 400, lambda: row.ask(row.library.user("play:invalid")))


def broken(row):
    """The stream breaks down, and the provider says so."""
    texts, _ = row.deltas("play:broken")
    with row.test.assertRaises(row.library.ERRORS["stream"]):
        list(texts)


def cut(row):
    """The stream ends in the middle, and nobody says why."""
    texts, _ = row.deltas("play:cut")
    with row.test.assertRaises(row.library.ERRORS["stream"]):
        list(texts)


def field(row):
    """The request is not what the dialect says."""
    turns, field = row.library.wrong()
    for ask in [row.ask, row.stream]:
        error = row.refuses("invalid", 400, lambda: ask(turns))
        row.test.assertTrue(row.library.blames(error, field), f"{error} does not name {field}")


def orphan(row):
    """A result of no call."""
    turns, field = row.library.orphan()
    error = row.refuses("invalid", 400, lambda: row.ask(row.library.user(QUESTION) + turns))
    row.test.assertTrue(row.library.blames(error, field), f"{error} does not name {field}")


def cancel(row):
    """The client leaves in the middle, and the provider hears of it."""
    token = uuid.uuid4().hex
    texts, close = row.deltas(f"play:endless:{token}")
    next(texts)
    texts.close()
    close()
    row.stage.wings(f"/gone/{token}")


def embeddings(row):
    """Vectors of the provider's model for that, in the order of the texts, and shorter ones."""
    model = TABLE["embeddings"][row.provider]
    texts = ["Who keeps the keys?", "café"]
    whole = [[len(text) / 8, 0.5, -0.25] for text in texts]
    for dimensions in [None, 2]:
        vectors, tokens = row.library.embed(row.client, model, texts, dimensions)
        row.test.assertEqual(vectors, [vector[:dimensions] for vector in whole])
        row.test.assertIn(tokens, [None, 5])
    [vector], _ = row.library.embed(row.client, model, texts[1:])
    row.test.assertEqual(vector, whole[1])


CASES = {name: globals()[name.replace("-", "_")] for name in TABLE["cases"]}
