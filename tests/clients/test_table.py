"""The official client libraries, unmodified, against `orch serve`: each at each provider, in each case of `table.json`.

The providers are fakes on loopback behind TLS (`tests/examples/providers.rs`); their keys lie in the vault. What a
client sends as its key is a token of the server. Python's libraries are driven from here (`table/`), Node's by
`table.mjs`, which reads the same table.

    test_table.py [WORD…]   only the rows whose names hold all of these words
"""

import asyncio
import json
import os
import pathlib
import subprocess
import sys
import unittest

import runner
from stage import Stage
from table import anthropic_messages, cohere_chat, google_genai, ollama_chat, openai_chat, openai_responses
from table.cases import CASES, QUESTION, TABLE, Row, embeddings

LIBRARIES = [openai_chat, openai_responses, anthropic_messages, google_genai, cohere_chat, ollama_chat]
WORDS = sys.argv[1:]

stage = None


def setUpModule():
    global stage
    stage = Stage()
    unittest.addModuleCleanup(stage.close)


def wanted(name):
    return all(word in name for word in WORDS)


class Python(unittest.TestCase):
    """A row is a test."""

    maxDiff = None


class Async(unittest.TestCase):
    """The same libraries, awaited: one answer and one stream of each provider."""


class Node(unittest.TestCase):
    """Node's libraries count their own rows, which the line that they end with says."""

    def test_table(self):
        told = {"url": stage.url, "token": stage.token, "told": stage.told, "words": WORDS}
        script = pathlib.Path(__file__).with_name("table.mjs")
        environment = {"PATH": os.environ["PATH"], "NODE_LIBRARIES": os.environ["NODE_LIBRARIES"]}
        # Its last line has to be one of its own.
        print(flush=True)
        done = subprocess.run(
            [os.environ["NODE"], script, json.dumps(told)], env=environment, stdout=sys.stdout, timeout=300
        )
        self.assertEqual(done.returncode, 0)


def add_row(library, provider, name, case):
    def test(self):
        case(Row(self, stage, library, provider))

    name = f"test {library.NAME} at {provider}: {name}"
    if wanted(name):
        setattr(Python, name, test)


def add_awaited(library, provider):
    def test(self):
        row = Row(self, stage, library, provider)

        async def both():
            asked = {"model": row.model, "turns": library.user(QUESTION)}
            async with library.async_client(stage.url, stage.token) as client:
                return await library.ask_async(client, **asked), await library.stream_async(client, **asked)

        whole, streamed = asyncio.run(both())
        row.check_answer(whole)
        self.assertEqual((streamed.text, streamed.stop), (stage.says, "stop"))
        self.assertGreater(streamed.deltas, 1)

    name = f"test {library.NAME} at {provider}: awaited"
    if wanted(name):
        setattr(Async, name, test)


if WORDS and "node" not in WORDS:
    del Node
assert [library.NAME for library in LIBRARIES] == TABLE["clients"]
for library in LIBRARIES:
    for provider in TABLE["providers"]:
        for name, case in CASES.items():
            add_row(library, provider, name, case)
        if hasattr(library, "embed") and provider in TABLE["embeddings"]:
            add_row(library, provider, "embeddings", embeddings)
        add_awaited(library, provider)

if __name__ == "__main__":
    sys.exit(runner.run(__name__, verbosity=1))
