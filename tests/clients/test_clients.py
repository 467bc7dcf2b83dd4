"""The official client libraries, unmodified, against `orch serve`: what is no row of the table (test_table.py).

Where the door is, who may come in, how models are named and listed, and what is told beside an answer.
"""

import functools
import json
import sys
import unittest

import anthropic
import cohere
import ollama
import openai
from google.genai import errors

import runner
from stage import Stage
from table import anthropic_messages, cohere_chat, google_genai, ollama_chat, openai_chat

MODEL = "gpt-5-mini"
CLAUDE = "claude-next-1"
QUESTION = [{"role": "user", "content": "Who keeps the keys?"}]

stage = None


def setUpModule():
    global stage
    stage = Stage()
    unittest.addModuleCleanup(stage.close)


def openai_at(base="", token=None):
    return openai_chat.client(stage.url + base, token or stage.token)


def anthropic_at(base="", token=None):
    return anthropic_messages.client(stage.url + base, token or stage.token)


# Its library closes what nobody holds any more.
@functools.cache
def google_at(base="", token=None):
    return google_genai.client(stage.url + base, token or stage.token)


class Doors(unittest.TestCase):
    """Each library finds its paths, and below `/api` as well; a model's provider need not be named."""

    def test_chat_completions(self):
        for base in ["", "/api"]:
            for model in [MODEL, "openai/" + MODEL, CLAUDE]:
                with self.subTest(base=base, model=model):
                    answer = openai_at(base).chat.completions.create(model=model, messages=QUESTION)
                    self.assertEqual(answer.choices[0].message.content, stage.says)

    def test_responses(self):
        for base in ["", "/api"]:
            for model in [MODEL, "openai-responses/" + MODEL, CLAUDE]:
                with self.subTest(base=base, model=model):
                    create = openai_at(base).responses.create
                    answer = create(model=model, instructions="Be brief.", input="Who keeps the keys?")
                    self.assertEqual(answer.output_text, stage.says)

    def test_messages(self):
        for base in ["", "/api"]:
            for model in [CLAUDE, "anthropic/" + CLAUDE, MODEL]:
                with self.subTest(base=base, model=model):
                    create = anthropic_at(base).messages.create
                    answer = create(model=model, max_tokens=99, system="Be brief.", messages=QUESTION)
                    self.assertEqual(answer.content[0].text, stage.says)

    def test_generate_content(self):
        for base in ["", "/api"]:
            for model in ["gemini-2.5-flash", "gemini/gemini-2.5-flash", MODEL]:
                with self.subTest(base=base, model=model):
                    generate = google_at(base).models.generate_content
                    self.assertEqual(generate(model=model, contents="Who keeps the keys?").text, stage.says)


class Strangers(unittest.TestCase):
    """A token that is none gets what each library raises for a key that is none."""

    TOKEN = "orch_nobody"

    def test_openai(self):
        client = openai_at(token=self.TOKEN)
        for ask in [
            lambda: client.chat.completions.create(model=MODEL, messages=QUESTION),
            lambda: client.responses.create(model=MODEL, input=QUESTION, stream=True),
            lambda: client.models.list(),
        ]:
            with self.assertRaises(openai.AuthenticationError) as raised:
                ask()
            self.assertEqual(raised.exception.code, "invalid_api_key")

    def test_anthropic(self):
        with self.assertRaises(anthropic.AuthenticationError) as raised:
            anthropic_at(token=self.TOKEN).messages.create(model=CLAUDE, max_tokens=9, messages=QUESTION)
        self.assertEqual(raised.exception.body["error"]["type"], "authentication_error")

    def test_google(self):
        with self.assertRaises(errors.ClientError) as raised:
            google_at(token=self.TOKEN).models.generate_content(model="gemini-2.5-flash", contents="x")
        self.assertIn(raised.exception.code, [400, 401])
        self.assertIn("token", raised.exception.message)

    def test_cohere(self):
        with self.assertRaises(cohere.UnauthorizedError):
            cohere_chat.client(stage.url, self.TOKEN).chat(model="command-a-plus-05-2026", messages=QUESTION)

    def test_ollama(self):
        with self.assertRaises(ollama.ResponseError) as raised:
            ollama_chat.client(stage.url, self.TOKEN).chat(model="ollama/qwen3:4b", messages=QUESTION)
        self.assertEqual(raised.exception.status_code, 401)


class Models(unittest.TestCase):
    def test_a_model_that_nobody_has(self):
        for stream in [False, True]:
            with self.assertRaises(openai.NotFoundError) as raised:
                openai_at().chat.completions.create(model="no-such-model", messages=QUESTION, stream=stream)
            self.assertEqual((raised.exception.code, raised.exception.param), ("model_not_found", "model"))
        with self.assertRaises(anthropic.NotFoundError) as raised:
            anthropic_at().messages.create(model="no-such-model", max_tokens=9, messages=QUESTION)
        self.assertEqual(raised.exception.body["error"]["type"], "not_found_error")
        with self.assertRaises(errors.ClientError) as raised:
            google_at().models.generate_content(model="no-such-model", contents="x")
        self.assertEqual(raised.exception.code, 404)

    def test_a_provider_without_a_key(self):
        with self.assertRaises(openai.UnprocessableEntityError) as raised:
            openai_at().chat.completions.create(model="keyless/keyless-1", messages=QUESTION)
        self.assertEqual(raised.exception.code, "orch_no_key")
        with self.assertRaises(anthropic.UnprocessableEntityError) as raised:
            anthropic_at().messages.create(model="keyless/keyless-1", max_tokens=9, messages=QUESTION)
        self.assertIn("KEYLESS_API_KEY", str(raised.exception))

    def test_a_list(self):
        for model in [model for model in openai_at().models.list() if model.id == "openai/" + MODEL]:
            self.assertEqual(model.key, "present")
            break
        else:
            self.fail(f"{MODEL} is not listed")
        listed = {model.id for model in anthropic_at().models.list()}
        self.assertIn("anthropic/claude-haiku-4-5-20251001", listed)
        names = {model.name for model in google_at().models.list()}
        self.assertTrue(any(name.endswith("gemini-2.5-flash") for name in names), names)
        models = ollama_chat.client(stage.url, stage.token).list().models
        self.assertIn("openai/" + MODEL, {model.model for model in models})


    def test_one_of_the_list(self):
        model = openai_at().models.retrieve("openai/" + MODEL)
        self.assertEqual((model.id, model.key), ("openai/" + MODEL, "present"))
        with self.assertRaises(openai.NotFoundError):
            openai_at().models.retrieve("no-such-model")
        model = anthropic_at().models.retrieve("anthropic/claude-haiku-4-5-20251001")
        self.assertEqual(model.id, "anthropic/claude-haiku-4-5-20251001")
        model = google_at().models.get(model="gemini/gemini-2.5-flash")
        self.assertTrue(model.name.endswith("gemini-2.5-flash"), model.name)


class Told(unittest.TestCase):
    """What comes beside an answer, and what does not."""

    def test_a_receipt(self):
        response = openai_at().chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION)
        receipt = json.loads(response.headers["x-orch-receipt"])
        self.assertEqual(receipt["provider"], "openai")
        self.assertEqual(receipt["credential"], {"id": "OPENAI_API_KEY", "source": "vault", "whose": "team"})
        self.assertEqual(response.parse().choices[0].message.content, stage.says)

    def test_a_wish_that_is_lost_is_counted(self):
        create = openai_at().responses.with_raw_response.create
        for model, dropped in [(MODEL, 0), (CLAUDE, 1)]:
            with self.subTest(model=model):
                response = create(model=model, input=QUESTION, store=True)
                self.assertEqual(json.loads(response.headers["x-orch-receipt"])["dropped"], dropped)

    def test_a_stream_that_asked_for_no_usage_has_none(self):
        for model in [MODEL, CLAUDE]:
            with self.subTest(model=model):
                chunks = list(openai_at().chat.completions.create(model=model, messages=QUESTION, stream=True))
                self.assertEqual([chunk.usage for chunk in chunks if chunk.usage], [])
                self.assertEqual(chunks[-1].choices[0].finish_reason, "stop")

    def test_what_openai_has_kept_is_its_own(self):
        create = openai_at().responses.create
        first = create(model=MODEL, input=QUESTION)
        second = create(model=MODEL, input="And?", previous_response_id=first.id)
        self.assertEqual(second.previous_response_id, first.id)
        for model in ["compat/compat-1", CLAUDE]:
            with self.subTest(model=model), self.assertRaises(openai.BadRequestError) as raised:
                create(model=model, input="And?", previous_response_id=first.id)
            self.assertEqual(raised.exception.param, "previous_response_id")

    def test_fields_that_are_wrong(self):
        for wrong, param in [({"input": 5}, "input"), ({"input": QUESTION, "background": True}, "background")]:
            with self.subTest(wrong=wrong), self.assertRaises(openai.BadRequestError) as raised:
                openai_at().responses.create(model=MODEL, **wrong)
            self.assertEqual(raised.exception.param, param)
        for create, more in [
            (openai_at().chat.completions.create, {"model": MODEL}),
            (anthropic_at().messages.create, {"model": CLAUDE, "max_tokens": 9}),
        ]:
            with self.assertRaises((openai.BadRequestError, anthropic.BadRequestError)) as raised:
                create(messages="not a list", **more)
            self.assertIn("messages", str(raised.exception))


if __name__ == "__main__":
    sys.exit(runner.run(__name__, verbosity=2))
