"""Programs that know HTTP_PROXY and nothing of `orch`, unmodified, through `orch proxy`.

The hosts are fakes on loopback behind TLS (`tests/examples/origins.rs`). Everything that a program gets is what the
environment file of the proxy holds, and the authority of the fakes.
"""

import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import requests

import runner

ORCH = os.environ["ORCH"]
ORIGINS = os.environ["ORIGINS"]
NODE = os.environ["NODE"]
UNDICI = os.environ["UNDICI"]

SECRET = "tok-0123456789abcdef0123456789abcdef"

stage = None


class Stage:
    """A home of its own, a git repository, the fake hosts, and a proxy that lets programs reach two of them."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="orch-proxy-")
        root = pathlib.Path(self._folder.name)
        self.root = root
        home, files = root / "orch", root / "files"
        home.mkdir(mode=0o700)
        files.mkdir()
        # Nothing of the caller's: neither keys nor proxies.
        self.plain = {
            "PATH": os.environ["PATH"], "HOME": str(root), "ORCH_HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }
        self._repository(files)
        self._processes = []
        self.arrived = []
        origins = self._start([ORIGINS, str(home), str(files)])
        self.ca = json.loads(origins.stdout.readline())["ca"]
        self._reader = threading.Thread(target=self._read, args=(origins.stdout,))
        self._reader.start()
        subprocess.run(
            [ORCH, "secrets", "set", "API_TOKEN", "-", "--host", "api.example.com"],
            input=SECRET.encode(), env=self.plain, check=True, capture_output=True,
        )
        self.log = open(root / "log", "w+")
        environment = root / "proxy.env"
        proxy = self._start(
            [
                ORCH, "proxy", "--json", "--listen", "127.0.0.1:0", "--env-file", str(environment),
                "--allow", "api.example.com", "--allow", "git.example.com", "--secret", "API_TOKEN@api.example.com",
            ],
            stderr=self.log,
        )
        ready = proxy.stdout.readline()
        if not ready:
            raise RuntimeError(f"orch proxy ended with {proxy.wait()}: {self.logged()}")
        handed = dict(line.split("=", 1) for line in environment.read_text().splitlines())
        self.placeholder = handed["API_TOKEN"]
        self.environment = self.plain | handed

    def _repository(self, files):
        """A repository as a server of plain files has it."""
        def git(*arguments, folder):
            subprocess.run(["git", *arguments], cwd=folder, env=self.plain, check=True, capture_output=True)

        work = self.root / "work"
        work.mkdir()
        (work / "README").write_text("through the proxy\n")
        git("init", "--quiet", "--initial-branch=main", ".", folder=work)
        git("add", "README", folder=work)
        git("-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "-m", "one", folder=work)
        git("clone", "--quiet", "--bare", str(work), str(files / "project.git"), folder=self.root)
        git("update-server-info", folder=files / "project.git")

    def _start(self, command, stderr=None):
        process = subprocess.Popen(
            command, env=self.plain, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        self._processes.append(process)
        return process

    def _read(self, lines):
        for line in lines:
            self.arrived.append(json.loads(line))

    def run(self, command, **more):
        return subprocess.run(
            command, env=self.environment | more, capture_output=True, text=True, timeout=60, cwd=self.root
        )

    def logged(self):
        self.log.flush()
        return (self.root / "log").read_text()

    def decisions(self):
        events = [json.loads(line) for line in self.logged().splitlines() if line.startswith("{")]
        return [event for event in events if event["event"] == "decision"]

    def decided(self, condition):
        """The first decision for which the condition holds. An answer may be back before its line: lines are written
        in pieces, a few milliseconds later."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            for decision in self.decisions():
                if condition(decision):
                    return decision
            time.sleep(0.01)
        raise AssertionError(f"no such decision in {self.logged()}")

    def close(self):
        for process in reversed(self._processes):
            process.terminate()
            process.stdin.close()
            process.wait(timeout=60)
        self._reader.join(timeout=60)
        for process in self._processes:
            process.stdout.close()
        self.log.close()
        self._folder.cleanup()


def setUpModule():
    global stage
    stage = Stage()
    unittest.addModuleCleanup(stage.close)


class Curl(unittest.TestCase):
    def curl(self, *arguments):
        return stage.run(["curl", "--silent", "--show-error", "--max-time", "30", "--cacert", stage.ca, *arguments])

    def test_https_goes_through_a_tunnel(self):
        done = self.curl("--fail", "https://api.example.com/x?y=1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["path"], "/x")
        stage.decided(lambda d: d["method"] == "CONNECT" and d["host"] == "api.example.com" and d["verdict"] == "allowed")

    def test_http_goes_over_tls_and_carries_the_secret(self):
        done = self.curl("--fail", "-H", f"Authorization: Bearer {stage.placeholder}", "http://api.example.com/secret")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn(SECRET, done.stdout)
        stage.decided(lambda d: d["path"] == "/secret" and d.get("injected") == ["API_TOKEN"])
        arrived = [request for request in stage.arrived if request["path"] == "/secret"]
        self.assertIn(["authorization", f"Bearer {SECRET}"], arrived[0]["headers"])

    def test_a_tunnel_carries_a_placeholder_as_it_is(self):
        done = self.curl("--fail", "-H", f"Authorization: Bearer {stage.placeholder}", "https://api.example.com/inert")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(stage.placeholder, done.stdout)

    def test_uploads_arrive_whole(self):
        body = "x" * 300_000
        (stage.root / "body").write_text(body)
        for url in ["http://api.example.com/up", "https://api.example.com/up"]:
            for framing in [[], ["-H", "Transfer-Encoding: chunked"]]:
                done = self.curl("--fail", *framing, "--data-binary", f"@{stage.root}/body", url)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(json.loads(done.stdout)["body"], body)

    def test_what_is_not_allowed_is_refused_and_said(self):
        done = self.curl("https://other.example.com/")
        self.assertEqual(done.returncode, 56, done.stderr)
        self.assertIn("403", done.stderr)
        done = self.curl("http://other.example.com/")
        error = json.loads(done.stdout)["error"]
        self.assertEqual((error["type"], error["code"]), ("egress_denied", "host_not_allowed"))
        self.assertEqual(error["rule_missing"]["host"], "other.example.com")

    def test_no_proxy_of_the_program_s_own_makes_an_exception(self):
        # What the environment file says comes last, and makes none.
        self.assertEqual(stage.environment["NO_PROXY"], "")

    def test_wrong_credentials_are_refused(self):
        wrong = re.sub(r":[0-9a-f]{64}@", ":" + "0" * 64 + "@", stage.environment["HTTP_PROXY"])
        done = self.curl("--proxy", wrong, "-o", "/dev/null", "-w", "%{http_code}", "http://api.example.com/")
        self.assertEqual(done.stdout, "407")

    def test_a_client_that_waits_to_be_asked_is_asked(self):
        done = self.curl("--fail", "--proxy-anyauth", "https://api.example.com/asked")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["path"], "/asked")


class Requests(unittest.TestCase):
    def setUp(self):
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = stage.ca
        self.session.proxies = {"http": stage.environment["HTTP_PROXY"], "https": stage.environment["HTTPS_PROXY"]}
        self.addCleanup(self.session.close)

    def test_what_is_allowed(self):
        for url in ["https://api.example.com/r", "http://api.example.com/r"]:
            for _ in range(3):
                answer = self.session.post(url, json={"a": 1}, timeout=30)
                self.assertEqual(answer.status_code, 200)
                self.assertEqual(json.loads(answer.json()["body"]), {"a": 1})

    def test_what_is_not(self):
        with self.assertRaises(requests.exceptions.ProxyError) as raised:
            self.session.get("https://other.example.com/", timeout=30)
        self.assertIn("403", str(raised.exception))
        answer = self.session.get("http://other.example.com/", timeout=30)
        self.assertEqual(answer.status_code, 403)
        self.assertEqual(answer.json()["error"]["code"], "host_not_allowed")


class NodeFetch(unittest.TestCase):
    """`fetch` of Node reads the proxy's variables from 22.21 and 24.5 on (NODE_USE_ENV_PROXY). For an older one the same
    client, undici, is taken from npm, with its agent for these variables."""

    def fetch(self, url):
        program = (
            "const report = f => f(process.argv[1]).then(async r => console.log(JSON.stringify("
            "{status: r.status, body: await r.text()})))"
            ".catch(e => console.log(JSON.stringify({error: String(e.cause ?? e)})));"
        )
        if UNDICI:
            program += (
                f"const undici = require({json.dumps(UNDICI)});"
                "undici.setGlobalDispatcher(new undici.EnvHttpProxyAgent({proxyTunnel: false}));"
                "report(undici.fetch);"
            )
        else:
            program += "report(fetch);"
        done = stage.run([NODE, "-e", program, url], NODE_EXTRA_CA_CERTS=stage.ca)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_what_is_allowed(self):
        answer = self.fetch("https://api.example.com/node")
        self.assertEqual(answer.get("status"), 200, answer)
        self.assertEqual(json.loads(answer["body"])["path"], "/node")

    def test_plain_http(self):
        answer = self.fetch("http://api.example.com/node")
        if not UNDICI and "error" in answer:
            # Some versions open a tunnel for http as well, to port 80, where nothing is allowed.
            stage.decided(lambda d: (d.get("reason") or {}).get("code") == "port_not_allowed")
            return
        self.assertEqual(answer.get("status"), 200, answer)
        self.assertEqual(json.loads(answer["body"])["path"], "/node")

    def test_what_is_not(self):
        answer = self.fetch("https://node.example.net/")
        self.assertIn("error", answer)
        stage.decided(lambda d: d["host"] == "node.example.net" and d["verdict"] == "denied")
        # undici opens a tunnel for http as well, or asks in absolute form: neither gets there.
        answer = self.fetch("http://node.example.net/")
        self.assertTrue("error" in answer or answer["status"] == 403, answer)


class Git(unittest.TestCase):
    def clone(self, url, name):
        return stage.run(["git", "-c", "credential.helper=", "clone", "--quiet", url, name], GIT_SSL_CAINFO=stage.ca)

    def test_a_repository_that_is_allowed(self):
        done = self.clone("https://git.example.com/project.git", "cloned")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((stage.root / "cloned" / "README").read_text(), "through the proxy\n")

    def test_one_that_is_not(self):
        done = self.clone("https://other.example.com/project.git", "refused")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("403", done.stderr)
        self.assertFalse((stage.root / "refused").exists())


class Terminal(unittest.TestCase):
    def test_tokens_are_shown_to_a_person(self):
        screen, end = pty.openpty()
        process = subprocess.Popen(
            [ORCH, "proxy", "--listen", "127.0.0.1:0", "--allow", "api.example.com"],
            env=stage.plain, stdin=subprocess.DEVNULL, stdout=end, stderr=subprocess.DEVNULL,
        )
        os.close(end)
        shown = b""
        while b"NODE_USE_ENV_PROXY=1" not in shown:
            shown += os.read(screen, 4096)
        process.terminate()
        self.assertEqual(process.wait(timeout=60), 0)
        os.close(screen)
        self.assertRegex(shown.decode(), r"export HTTPS_PROXY=http://default:[0-9a-f]{64}@127\.0\.0\.1:\d+\r\n")


if __name__ == "__main__":
    sys.exit(runner.run(__name__, verbosity=2))
