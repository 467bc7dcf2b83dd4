"""A home of its own, the fake providers, and a server: what the tests of client libraries stand on."""

import json
import os
import pathlib
import subprocess
import tempfile
import urllib.request

ORCH = os.environ["ORCH"]
PROVIDERS = os.environ["PROVIDERS"]


class Stage:
    """`told` is what the fake providers say of themselves; `url` and `token` lead to the server."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="orch-clients-")
        home = pathlib.Path(self._folder.name, "orch")
        home.mkdir(mode=0o700)
        # Nothing of the caller's: neither keys nor proxies.
        self._environment = {"PATH": os.environ["PATH"], "HOME": self._folder.name, "ORCH_HOME": str(home)}
        self._processes = []
        self.told = self._start([PROVIDERS, str(home)])
        self.says = self.told["says"]
        for name, key in self.told["keys"].items():
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

    def wings(self, path):
        """Lets a stream go on (`/go/TOKEN`), or returns when a stream was left (`/gone/TOKEN`)."""
        with urllib.request.urlopen(self.told["wings"] + path, timeout=20) as answer:
            answer.read()

    def forget(self, provider):
        """Forgets what is known of a provider's key, as an operator does: the next test is another story."""
        request = urllib.request.Request(
            f"{self.url}/v1/providers/{provider}/reset", method="POST",
            headers={"authorization": f"Bearer {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            answer.read()

    def close(self):
        """Ends everything. Raises when the fake providers got what was no request."""
        ends = {}
        for process in reversed(self._processes):
            providers = process is self._processes[0]
            if not providers:
                process.terminate()
            process.stdin.close()
            process.stdout.close()
            ends[process.args[0]] = process.wait(timeout=60)
        self._folder.cleanup()
        if ends[PROVIDERS]:
            raise RuntimeError(f"the fake providers ended with {ends[PROVIDERS]}")
