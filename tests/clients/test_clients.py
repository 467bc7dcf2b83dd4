"""The official client libraries, unmodified, against `orch serve`.

The providers are fakes on loopback behind TLS (`tests/examples/providers.rs`); their keys lie in the vault. What a
client sends as its key is a token of the server.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import anthropic
import openai

ORCH = os.environ["ORCH"]
PROVIDERS = os.environ["PROVIDERS"]

CHAT_MODEL = "gpt-4o-mini"
MESSAGES_MODEL = "claude-3-haiku-20240307"
QUESTION = [{"role": "user", "content": "Who keeps the keys?"}]

stage = None


class Stage:
    """A home of its own, the fake providers, and a server."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="orch-clients-")
        home = pathlib.Path(self._folder.name, "orch")
        home.mkdir(mode=0o700)
        # Nothing of the caller's: neither keys nor proxies.
        self._environment = {"PATH": os.environ["PATH"], "HOME": self._folder.name, "ORCH_HOME": str(home)}
        self._processes = []
        told = self._start([PROVIDERS, str(home)])
        self.says, self.arguments = told["says"], told["arguments"]
        for name, key in told["keys"].items():
            subprocess.run(
                [ORCH, "secrets", "set", name, "-"],
                input=key.encode(), env=self._environment, check=True, capture_output=True,
            )
        self.url = self._start([ORCH, "serve", "--json", "--listen", "127.0.0.1:0"])["url"]
        self.token = (home / "data" / "admin-token").read_text().strip()

    def _start(self, command):
        """Starts a program and returns the line of JSON that it begins with."""
        process = subprocess.Popen(command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._processes.append(process)
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{command} ended with {process.wait()} and said nothing")
        return json.loads(line)

    def openai(self, key=None, base="/v1"):
        return openai.OpenAI(api_key=key or self.token, base_url=self.url + base, max_retries=0, timeout=30)

    def anthropic(self, key=None, base=""):
        return anthropic.Anthropic(api_key=key or self.token, base_url=self.url + base, max_retries=0, timeout=30)

    def close(self):
        for process in reversed(self._processes):
            process.terminate()
            process.stdin.close()
            process.stdout.close()
            process.wait(timeout=60)
        self._folder.cleanup()


def setUpModule():
    global stage
    stage = Stage()
    unittest.addModuleCleanup(stage.close)


class OpenAiClient(unittest.TestCase):
    TOOL = {
        "type": "function",
        "function": {
            "name": "forecast",
            "description": "The weather to come.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    }

    def test_a_chat(self):
        for base in ["/v1", "/api/v1"]:
            for model in [CHAT_MODEL, "openai/" + CHAT_MODEL, MESSAGES_MODEL]:
                with self.subTest(base=base, model=model):
                    answer = stage.openai(base=base).chat.completions.create(model=model, messages=QUESTION)
                    self.assertEqual(answer.choices[0].message.content, stage.says)
                    self.assertEqual(answer.choices[0].finish_reason, "stop")
                    self.assertGreater(answer.usage.total_tokens, 0)

    def test_a_chat_with_its_receipt(self):
        create = stage.openai().chat.completions.with_raw_response.create
        response = create(model=CHAT_MODEL, messages=QUESTION)
        receipt = json.loads(response.headers["x-orch-receipt"])
        self.assertEqual(receipt["provider"], "openai")
        self.assertEqual(receipt["credential"], {"id": "OPENAI_API_KEY", "source": "vault"})
        self.assertEqual(response.parse().choices[0].message.content, stage.says)

    def test_a_stream(self):
        for model in [CHAT_MODEL, MESSAGES_MODEL]:
            with self.subTest(model=model):
                stream = stage.openai().chat.completions.create(
                    model=model, messages=QUESTION, stream=True, stream_options={"include_usage": True}
                )
                chunks = list(stream)
                deltas = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
                self.assertEqual("".join(deltas), stage.says)
                self.assertGreater(len([delta for delta in deltas if delta]), 1)
                self.assertGreater(chunks[-1].usage.completion_tokens, 0)

    def test_a_stream_without_usage_has_none(self):
        chunks = list(stage.openai().chat.completions.create(model=CHAT_MODEL, messages=QUESTION, stream=True))
        self.assertEqual([chunk.usage for chunk in chunks if chunk.usage], [])
        self.assertEqual(chunks[-1].choices[0].finish_reason, "stop")

    def test_a_tool_is_called_and_its_result_answered(self):
        for model in [CHAT_MODEL, MESSAGES_MODEL]:
            with self.subTest(model=model):
                create = stage.openai().chat.completions.create
                first = create(model=model, messages=QUESTION, tools=[self.TOOL])
                self.assertEqual(first.choices[0].finish_reason, "tool_calls")
                [call] = first.choices[0].message.tool_calls
                self.assertEqual(call.function.name, "forecast")
                self.assertEqual(json.loads(call.function.arguments), stage.arguments)
                turns = QUESTION + [
                    first.choices[0].message,
                    {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
                ]
                second = create(model=model, messages=turns, tools=[self.TOOL])
                self.assertEqual(second.choices[0].message.content, stage.says)

    def test_a_tool_is_called_in_a_stream(self):
        for model in [CHAT_MODEL, MESSAGES_MODEL]:
            with self.subTest(model=model):
                with stage.openai().chat.completions.stream(
                    model=model, messages=QUESTION, tools=[self.TOOL]
                ) as stream:
                    final = stream.get_final_completion()
                [call] = final.choices[0].message.tool_calls
                self.assertEqual(json.loads(call.function.arguments), stage.arguments)

    def test_a_bad_key(self):
        with self.assertRaises(openai.AuthenticationError) as raised:
            stage.openai(key="orch_nobody").chat.completions.create(model=CHAT_MODEL, messages=QUESTION)
        self.assertEqual(raised.exception.code, "invalid_api_key")

    def test_a_bad_model(self):
        with self.assertRaises(openai.NotFoundError) as raised:
            stage.openai().chat.completions.create(model="no-such-model", messages=QUESTION)
        self.assertEqual(raised.exception.code, "model_not_found")
        self.assertEqual(raised.exception.param, "model")

    def test_a_model_that_the_provider_does_not_have(self):
        with self.assertRaises(openai.NotFoundError) as raised:
            stage.openai().chat.completions.create(model="gpt-4.1", messages=QUESTION)
        self.assertIn("openai/gpt-4.1", raised.exception.message)

    def test_a_provider_without_a_key(self):
        with self.assertRaises(openai.UnprocessableEntityError) as raised:
            stage.openai().chat.completions.create(model="gemini-2.5-flash", messages=QUESTION)
        self.assertEqual(raised.exception.code, "orch_no_key")

    def test_a_bad_request(self):
        with self.assertRaises(openai.BadRequestError):
            stage.openai().chat.completions.create(model=CHAT_MODEL, messages="not a list")

    def test_models(self):
        models = {model.id: model for model in stage.openai().models.list()}
        self.assertEqual(models["openai/" + CHAT_MODEL].key, "present")
        self.assertEqual(models["gemini/gemini-2.5-flash"].key, "missing")


class ResponsesClient(unittest.TestCase):
    """OpenAI's responses: from OpenAI as it sends them, and written anew from chat completions and messages."""

    LAN_MODEL = "lan/lan-model"
    MODELS = [CHAT_MODEL, "openai-responses/" + CHAT_MODEL, LAN_MODEL, MESSAGES_MODEL]
    TOOL = {"type": "function", **OpenAiClient.TOOL["function"], "strict": False}
    FORMAT = {
        "type": "json_schema",
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"answer": {"type": "string"}},
            "required": ["answer"],
            "additionalProperties": False,
        },
    }

    def test_a_response(self):
        for base in ["/v1", "/api/v1"]:
            for model in self.MODELS:
                with self.subTest(base=base, model=model):
                    create = stage.openai(base=base).responses.create
                    answer = create(model=model, instructions="Be brief.", input="Who keeps the keys?")
                    self.assertEqual(answer.output_text, stage.says)
                    self.assertEqual(answer.status, "completed")
                    self.assertGreater(answer.usage.total_tokens, 0)

    def test_a_stream(self):
        for model in self.MODELS:
            with self.subTest(model=model):
                events = list(stage.openai().responses.create(model=model, input=QUESTION, stream=True))
                self.assertEqual([event.sequence_number for event in events], list(range(len(events))))
                deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
                self.assertEqual("".join(deltas), stage.says)
                self.assertGreater(len(deltas), 1)
                self.assertEqual(events[0].type, "response.created")
                self.assertEqual(events[-1].type, "response.completed")
                self.assertEqual(events[-1].response.output_text, stage.says)
                self.assertGreater(events[-1].response.usage.output_tokens, 0)

    def test_a_tool_is_called_and_its_result_answered(self):
        for model in self.MODELS:
            with self.subTest(model=model):
                create = stage.openai().responses.create
                first = create(model=model, input=QUESTION, tools=[self.TOOL])
                [call] = [item for item in first.output if item.type == "function_call"]
                self.assertEqual(call.name, "forecast")
                self.assertEqual(json.loads(call.arguments), stage.arguments)
                output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
                second = create(model=model, input=QUESTION + first.output + [output], tools=[self.TOOL])
                self.assertEqual(second.output_text, stage.says)

    def test_a_tool_is_called_in_a_stream(self):
        for model in self.MODELS:
            with self.subTest(model=model):
                with stage.openai().responses.stream(model=model, input=QUESTION, tools=[self.TOOL]) as stream:
                    final = stream.get_final_response()
                [call] = [item for item in final.output if item.type == "function_call"]
                self.assertEqual(json.loads(call.arguments), stage.arguments)

    def test_structured_output(self):
        # This model of Anthropic's cannot keep to a schema.
        for model in [CHAT_MODEL, self.LAN_MODEL]:
            with self.subTest(model=model):
                create = stage.openai().responses.create
                answer = create(model=model, input=QUESTION, text={"format": self.FORMAT})
                self.assertEqual(json.loads(answer.output_text), {"answer": stage.says})

    def test_what_openai_has_kept_is_its_own(self):
        create = stage.openai().responses.create
        first = create(model=CHAT_MODEL, input=QUESTION)
        second = create(model=CHAT_MODEL, input="And?", previous_response_id=first.id)
        self.assertEqual(second.previous_response_id, first.id)
        for model in [self.LAN_MODEL, MESSAGES_MODEL]:
            with self.subTest(model=model), self.assertRaises(openai.BadRequestError) as raised:
                create(model=model, input="And?", previous_response_id=first.id)
            self.assertEqual(raised.exception.param, "previous_response_id")

    def test_a_wish_that_is_lost_is_counted_in_the_receipt(self):
        create = stage.openai().responses.with_raw_response.create
        for model, dropped in [(CHAT_MODEL, 0), (MESSAGES_MODEL, 1)]:
            with self.subTest(model=model):
                response = create(model=model, input=QUESTION, store=True)
                self.assertEqual(json.loads(response.headers["x-orch-receipt"])["dropped"], dropped)

    def test_a_bad_key(self):
        with self.assertRaises(openai.AuthenticationError) as raised:
            stage.openai(key="orch_nobody").responses.create(model=CHAT_MODEL, input=QUESTION)
        self.assertEqual(raised.exception.code, "invalid_api_key")

    def test_a_bad_model(self):
        for stream in [False, True]:
            with self.assertRaises(openai.NotFoundError) as raised:
                stage.openai().responses.create(model="no-such-model", input=QUESTION, stream=stream)
            self.assertEqual((raised.exception.code, raised.exception.param), ("model_not_found", "model"))

    def test_a_provider_without_a_key(self):
        with self.assertRaises(openai.UnprocessableEntityError) as raised:
            stage.openai().responses.create(model="gemini-2.5-flash", input=QUESTION)
        self.assertEqual(raised.exception.code, "orch_no_key")

    def test_a_bad_request(self):
        for wrong, param in [
            ({"input": 5}, "input"),
            ({"input": [{"role": "king", "content": "x"}]}, "input[0].role"),
            ({"input": QUESTION, "background": True}, "background"),
        ]:
            with self.subTest(wrong=wrong), self.assertRaises(openai.BadRequestError) as raised:
                stage.openai().responses.create(model=CHAT_MODEL, **wrong)
            self.assertEqual(raised.exception.param, param)


class NodeClient(unittest.TestCase):
    """The same with OpenAI's library for Node."""

    def test_responses(self):
        told = {"url": stage.url, "token": stage.token, "says": stage.says, "arguments": stage.arguments}
        script = pathlib.Path(__file__).with_name("responses.mjs")
        environment = {"PATH": os.environ["PATH"], "OPENAI_FOR_NODE": os.environ["OPENAI_FOR_NODE"]}
        done = subprocess.run(
            [os.environ["NODE"], script, json.dumps(told)], env=environment, capture_output=True, text=True, timeout=120,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("10 passed", done.stdout)


class AnthropicClient(unittest.TestCase):
    TOOL = {
        "name": "forecast",
        "description": "The weather to come.",
        "input_schema": OpenAiClient.TOOL["function"]["parameters"],
    }

    def test_a_message(self):
        for base in ["", "/api"]:
            for model in [MESSAGES_MODEL, "anthropic/" + MESSAGES_MODEL, CHAT_MODEL]:
                with self.subTest(base=base, model=model):
                    create = stage.anthropic(base=base).messages.create
                    answer = create(model=model, max_tokens=99, system="Be brief.", messages=QUESTION)
                    self.assertEqual(answer.content[0].text, stage.says)
                    self.assertEqual(answer.stop_reason, "end_turn")
                    self.assertGreater(answer.usage.output_tokens, 0)

    def test_a_stream(self):
        for model in [MESSAGES_MODEL, CHAT_MODEL]:
            with self.subTest(model=model):
                create = stage.anthropic().messages.stream
                with create(model=model, max_tokens=99, messages=QUESTION) as stream:
                    pieces = list(stream.text_stream)
                    final = stream.get_final_message()
                self.assertEqual("".join(pieces), stage.says)
                self.assertGreater(len(pieces), 1)
                self.assertEqual(final.content[0].text, stage.says)
                self.assertEqual(final.stop_reason, "end_turn")
                self.assertGreater(final.usage.output_tokens, 0)

    def test_a_tool_is_called_and_its_result_answered(self):
        for model in [MESSAGES_MODEL, CHAT_MODEL]:
            with self.subTest(model=model):
                create = stage.anthropic().messages.create
                first = create(model=model, max_tokens=99, messages=QUESTION, tools=[self.TOOL])
                self.assertEqual(first.stop_reason, "tool_use")
                [call] = [block for block in first.content if block.type == "tool_use"]
                self.assertEqual((call.name, call.input), ("forecast", stage.arguments))
                turns = QUESTION + [
                    {"role": "assistant", "content": first.content},
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}],
                    },
                ]
                second = create(model=model, max_tokens=99, messages=turns, tools=[self.TOOL])
                self.assertEqual(second.content[0].text, stage.says)

    def test_a_tool_is_called_in_a_stream(self):
        for model in [MESSAGES_MODEL, CHAT_MODEL]:
            with self.subTest(model=model):
                with stage.anthropic().messages.stream(
                    model=model, max_tokens=99, messages=QUESTION, tools=[self.TOOL]
                ) as stream:
                    final = stream.get_final_message()
                [call] = [block for block in final.content if block.type == "tool_use"]
                self.assertEqual(call.input, stage.arguments)

    def test_a_bad_key(self):
        with self.assertRaises(anthropic.AuthenticationError) as raised:
            create = stage.anthropic(key="orch_nobody").messages.create
            create(model=MESSAGES_MODEL, max_tokens=9, messages=QUESTION)
        self.assertEqual(raised.exception.body["error"]["type"], "authentication_error")

    def test_a_bad_model(self):
        with self.assertRaises(anthropic.NotFoundError) as raised:
            stage.anthropic().messages.create(model="no-such-model", max_tokens=9, messages=QUESTION)
        self.assertEqual(raised.exception.body["error"]["type"], "not_found_error")

    def test_a_provider_without_a_key(self):
        with self.assertRaises(anthropic.UnprocessableEntityError) as raised:
            stage.anthropic().messages.create(model="gemini-2.5-flash", max_tokens=9, messages=QUESTION)
        self.assertIn("GEMINI_API_KEY", str(raised.exception))

    def test_a_bad_request(self):
        with self.assertRaises(anthropic.BadRequestError):
            stage.anthropic().messages.create(model=MESSAGES_MODEL, max_tokens=9, messages="not a list")

    def test_models(self):
        models = {model.id: model for model in stage.anthropic().models.list()}
        self.assertEqual(models["anthropic/" + MESSAGES_MODEL].key, "present")


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failed = {test.id().split(" ")[0] for test, _ in result.failures + result.errors}
    passed = result.testsRun - len([name for name in failed if not name.startswith("setUpModule")])
    if not result.testsRun:
        failed.add("no test ran")
    word = "FAILED" if failed else "ok"
    skipped = len(result.skipped)
    print(f"test result: {word}. {passed - skipped} passed; {len(failed)} failed; {skipped} ignored")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
