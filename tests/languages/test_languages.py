"""Agents in Python and JavaScript, as their toolchains build them: `examples/summarizer-*`, and a probe in each.

OpenAI is a fake on loopback behind TLS (`tests/examples/providers.rs`) that takes one key, which lies in the vault.
"""

import json
import os
import pathlib
import pty
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ORCH = os.environ["ORCH"]
PROVIDERS = os.environ["PROVIDERS"]
EXAMPLES = pathlib.Path(os.environ["EXAMPLES"])
# Where `LANGUAGE.wasm` and `probe-LANGUAGE.wasm` are.
BUILT = pathlib.Path(os.environ["BUILT"])

INPUT = {"text": "Rain fell on the café. Ships waited.", "sentences": 2}
# Compiling an interpreter takes a debug build on a busy machine its time.
PATIENCE = 300

stage = None


class Stage:
    """A home of its own with the key in its vault, the fake providers, and agents around what was built."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="orch-languages-")
        self.root = pathlib.Path(self._folder.name)
        home = self.root / "orch"
        home.mkdir(mode=0o700)
        self.artifacts = home / "cache" / "artifacts"
        # Nothing of the caller's: neither keys nor proxies.
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.root), "ORCH_HOME": str(home), "TERM": "xterm"}
        self._providers = subprocess.Popen(
            [PROVIDERS, str(home), "--tell"], env=self.environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        told = json.loads(self._providers.stdout.readline())
        self.says, self.key = told["says"], told["keys"]["OPENAI_API_KEY"]
        self.arrived = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        subprocess.run(
            [ORCH, "secrets", "set", "OPENAI_API_KEY", "-"], input=self.key.encode(), env=self.environment, check=True,
            capture_output=True,
        )
        for language in LANGUAGES:
            example = self.root / language
            example.mkdir()
            shutil.copy(EXAMPLES / f"summarizer-{language}" / "orch.yaml", example)
            shutil.copy(BUILT / f"{language}.wasm", example / "summarizer.wasm")
            probe = self.root / f"probe-{language}"
            probe.mkdir()
            shutil.copy(BUILT / f"probe-{language}.wasm", probe / "probe.wasm")
            self._describe(probe, "probe.wasm")
            # The example without its schema, so that any input gets to it.
            untyped = self.root / f"untyped-{language}"
            untyped.mkdir()
            shutil.copy(BUILT / f"{language}.wasm", untyped / "summarizer.wasm")
            self._describe(untyped, "summarizer.wasm")

    def _describe(self, folder, module):
        manifest = {
            "name": f"test/{folder.name}", "version": "1.0.0", "module": module, "supported_providers": ["openai"],
        }
        # JSON is YAML.
        (folder / "orch.yaml").write_text(json.dumps(manifest))

    def _read(self):
        for line in self._providers.stdout:
            self.arrived.append(json.loads(line))

    def run(self, agent, value, *arguments):
        command = [ORCH, "run", "--local", str(self.root / agent), *arguments, "--input", json.dumps(value)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)

    def compiled(self):
        """What lies in the cache of compiled agents, with the moments at which it was written."""
        return {file.name: file.stat().st_mtime_ns for file in self.artifacts.iterdir()} if self.artifacts.exists() else {}

    def watched(self, agent, value, *arguments):
        """Runs an agent with a terminal for its log: exit code, output, and what the terminal got."""
        terminal, side = pty.openpty()
        command = [ORCH, "run", "--local", str(self.root / agent), *arguments, "--input", json.dumps(value)]
        process = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=side
        )
        os.close(side)
        shown = b""
        try:
            while piece := os.read(terminal, 65536):
                shown += piece
        except OSError:
            # How a terminal says that its other side is gone.
            pass
        finally:
            os.close(terminal)
        output = process.stdout.read().decode()
        process.stdout.close()
        return process.wait(timeout=PATIENCE), output, shown.decode()

    def received(self, count):
        """The requests that have arrived, once there are as many: their lines come a moment later than the answers."""
        end = time.monotonic() + 10
        while len(self.arrived) < count and time.monotonic() < end:
            time.sleep(0.01)
        return list(self.arrived)

    def close(self):
        self._providers.stdin.close()
        self._providers.wait(timeout=60)
        self._reader.join()
        self._providers.stdout.close()
        self._folder.cleanup()


def setUpModule():
    global stage
    stage = Stage()
    unittest.addModuleCleanup(stage.close)


class Agents:
    """The same for each language. Tests go by their names: the first one compiles what the second one finds compiled."""

    language = None

    def test_1_the_first_run_says_that_it_compiles(self):
        before = stage.compiled()
        code, output, shown = stage.watched(self.language, INPUT, "--simulate")
        self.assertEqual(code, 0, shown)
        self.assertEqual(json.loads(output)["model"], "gpt-4o-mini")
        self.assertIn("compiling the agent for 1 s", shown)
        self.assertEqual(len(stage.compiled()), len(before) + 1)

    def test_2_the_next_run_compiles_nothing(self):
        before = stage.compiled()
        code, output, shown = stage.watched(self.language, INPUT, "--simulate")
        self.assertEqual(code, 0, shown)
        self.assertEqual(json.loads(output)["summary"], INPUT["text"])
        self.assertNotIn("compiling", shown)
        self.assertEqual(stage.compiled(), before)

    def test_a_model_is_called_with_the_key_of_the_vault(self):
        before = len(stage.arrived)
        run = stage.run(self.language, INPUT, "--json")
        self.assertEqual(run.returncode, 0, run.stderr)
        report = json.loads(run.stdout)
        self.assertEqual(report["output"], {"summary": stage.says, "model": "gpt-4o-mini"})
        self.assertFalse(report["simulated"])
        [call] = report["calls"]
        self.assertEqual((call["provider_served"], call["credential"]["source"]), ("openai", "vault"))
        # The log has the pieces of the stream, and the text of the input by its count of characters.
        self.assertIn(f"summarising {len(INPUT['text'])} characters in 2 sentences", run.stderr)
        self.assertIn(stage.says, run.stderr)
        self.assertNotIn(stage.key, run.stdout + run.stderr)
        [request] = stage.received(before + 1)[before:]
        self.assertEqual(dict(request["headers"])["authorization"], f"Bearer {stage.key}")
        body = json.loads(request["body"])
        self.assertTrue(body["stream"])
        self.assertEqual(body["messages"][1], {"role": "user", "content": INPUT["text"]})

    def test_what_the_provider_refuses_is_told_in_words(self):
        run = stage.run(self.language, INPUT, "--simulate=bad-key", "--provider", "openai")
        self.assertEqual((run.returncode, run.stdout), (3, ""), run.stderr)
        self.assertIn("│ error: no model could answer: openai/gpt-4o-mini: bad_key", run.stderr)

    def test_half_an_answer_is_an_error(self):
        run = stage.run(self.language, INPUT, "--simulate=cut")
        self.assertEqual((run.returncode, run.stdout), (1, ""))
        self.assertIn("│ error: openai/gpt-4o-mini: the upstream ended the body early", run.stderr)
        self.assertIn(f"orch/summarizer-{self.language} exited with status 1", run.stderr)

    def test_the_agent_has_a_placeholder_where_the_provider_gets_the_key(self):
        before = len(stage.arrived)
        run = stage.run(f"probe-{self.language}", {})
        self.assertEqual(run.returncode, 0, run.stderr)
        seen = json.loads(run.stdout)
        self.assertEqual(seen["status"], 200)
        self.assertEqual(seen["answer"]["choices"][0]["message"]["content"], stage.says)
        self.assertNotEqual(seen["key"], stage.key)
        self.assertTrue(seen["key"])
        self.assertEqual(seen["environment"]["ORCH_LLM_URL"], "http://llm.orch.internal/v1")
        self.assertNotIn(stage.key, run.stdout + run.stderr)
        [request] = stage.received(before + 1)[before:]
        self.assertEqual(dict(request["headers"])["authorization"], f"Bearer {stage.key}")
        self.assertNotIn(seen["key"], json.dumps(request))

    def test_an_exception_is_told_with_where_it_was_raised(self):
        run = stage.run(f"untyped-{self.language}", {"text": 5})
        self.assertEqual((run.returncode, run.stdout), (1, ""))
        for words in self.raised:
            self.assertIn(words, run.stderr)
        self.assertIn(f"error: test/untyped-{self.language} exited with status 1", run.stderr)


class Python(Agents, unittest.TestCase):
    language = "python"
    raised = ["│ AttributeError: 'int' object has no attribute 'strip'", 'app.py", line ', "in summarize"]


class JavaScript(Agents, unittest.TestCase):
    language = "javascript"
    raised = ["│ TypeError: text.trim is not a function", "│ summarize@"]


LANGUAGES = [Python.language, JavaScript.language]


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
