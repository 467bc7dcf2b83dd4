"""wasmtime's WASI suite (`build.sh`) through `orch run --local`: one line for each test, and a table at the end.

    run.py ORCH FOLDER [NAME…]

A test of the suite is a program that fails when its host does something else than WASI says. Most want a folder to write in;
some want more, which is in TESTS. What cannot be run here is in SKIPPED, with the reason.
"""

import argparse
import collections
import fnmatch
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field

# Pattern of names to the reason.
SKIPPED = {
    "p2_tcp_*": "sockets are refused, by design; p2_cli_no_tcp checks how",
    "p2_udp_*": "sockets are refused, by design; p2_cli_no_udp checks how",
    "p2_ip_name_lookup": "sockets are refused, by design; p2_cli_no_ip_name_lookup checks how",
    "p2_tls_*": "wasi:tls is a draft and not offered",
    "p2_api_proxy*": "no command: a server of wasi:http/incoming-handler",
    "p2_cli_serve_*": "no command: a server of wasi:http/incoming-handler",
    "p2_api_reactor": "no command: a library",
    "p2_cli_invoke_async": "no command: a library",
    "p2_api_time": "wants a host with false clocks",
    "p2_cli_args": "agents have no arguments",
    "p2_cli_argv0": "agents have no arguments",
    "p2_cli_initial_cwd": "wants a host that sets the working directory",
    "p2_cli_env": "wants exactly two variables: agents have ORCH_* besides",
    "p2_cli_stdin": "its input is not JSON, which an agent's is",
    "p2_cli_splice_stdin": "its input is not JSON, which an agent's is",
    "p2_cli_stdin_eisdir": "wants a folder for standard input",
    "p2_cli_stdout_epipe": "wants a reader that leaves: the broker reads to the end",
    "p2_cli_stdio_write_flushes": "wants to read nothing at all: no input is `null`",
    "p2_cli_large_env": "512 KiB of variables trap in the adapter, in `wasmtime run` of this build as well",
    "p2_cli_exit_with_code": "exit-with-code is unstable in WASI 0.2 and not offered",
    "p[12]_cli_hostcall_fuel": "about a setting of wasmtime; orch has one account for memory instead",
    "p2_cli_many_resources": "about a setting of wasmtime; orch has limits.resources, with tests of its own",
    "p2_cli_http_headers": "about a setting of wasmtime, and imports WASI 0.3",
    "p1_stdio_isatty": "wants a terminal: agents have none",
    "p2_http_outbound_request_timeout": "an address of TEST-NET, which the address guard refuses",
    "p2_http_outbound_request_invalid_header": "wants a host that forbids one more header",
    "p2_http_outbound_request_invalid_port": "wants an error; a refusal is an answer with status 403, by design",
    "p2_http_outbound_request_invalid_version": "wants CONNECT to fail later: it is refused as an invalid method",
}

SCRATCH = "/scratch"


@dataclass
class Test:
    # Path in the sandbox to access and files.
    mounts: dict = field(default_factory=lambda: {SCRATCH: ("rw", {})})
    environment: dict = field(default_factory=dict)
    arguments: list = field(default_factory=lambda: [SCRATCH])
    options: list = field(default_factory=list)
    egress: list = field(default_factory=list)
    # How it ends: 0 for success, or orch's exit code and what it says.
    code: int = 0
    says: str = ""


BAR = "And stood awhile in thought"
SLITHY = "'Twas brillig, and the slithy toves.\n"
READ_ONLY = {SCRATCH: ("rw", {}), "/readonly": ("ro", {"test.txt": "read only test file\n"})}
STREAM = {SCRATCH: ("rw", {}), "/readonly": ("ro", {"stream-perms.txt": "stream permission test\n"})}
HTTP = "p2_http_outbound_request_*"
TESTS = {
    "p2_cli_file_read": Test(mounts={"/": ("rw", {"bar.txt": BAR})}),
    "p2_cli_file_*": Test(mounts={"/": ("rw", {"bar.txt": SLITHY})}),
    "p2_cli_directory_list": Test(
        mounts={"/": ("rw", {name: "" for name in ["foo.txt", "bar.txt", "baz.txt", "sub/wow.txt", "sub/yay.txt"]})}
    ),
    "p2_api_read_only": Test(mounts={"/": ("ro", {"bar.txt": BAR, "sub/empty": ""})}),
    "p[12]_file_*_across_perms": Test(mounts=READ_ONLY),
    "p[12]_file_truncation_readonly": Test(mounts=READ_ONLY),
    "p2_file_stream_not_permitted": Test(mounts=STREAM),
    "p2_cli_multiple_preopens": Test(mounts={"/a": ("rw", {}), "/b": ("rw", {}), "/c": ("rw", {})}),
    "p[12]_cli_much_stdout": Test(arguments=["some text", "1000"]),
    "p2_cli_exit_failure": Test(code=1, says="exited with status 1"),
    "p2_cli_exit_panic": Test(code=1, says="Curiouser and curiouser!"),
    "p2_cli_sleep_forever": Test(options=["--time", "1s"], code=6, says="reached its time limit"),
    "p2_pollable_traps": Test(code=1, says="empty poll list"),
    "p2_stream_pollable_traps": Test(code=1, says="resource has children"),
    "p1_stat_extreme_host_mtime": Test(mounts={SCRATCH: ("rw", {"extreme.dat": "hello"})}),
    "p2_http_outbound_request_invalid_dnsname": Test(egress=[{"host": "some.invalid.dnsname", "scheme": "http", "port": 3000}]),
    HTTP: Test(egress=[{"host": "suite.example.com", "scheme": "http", "methods": ["GET", "POST", "PUT"]}]),
}


class Server(http.server.BaseHTTPRequestHandler):
    """What the suite's own server does: sends back the body, and method and target as headers."""

    protocol_version = "HTTP/1.1"

    def handle_any(self):
        if "chunked" in self.headers.get("transfer-encoding", ""):
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("x-wasmtime-test-method", self.command)
        self.send_header("x-wasmtime-test-uri", self.path)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = handle_any

    def log_message(self, *_):
        pass


class Suite:
    def __init__(self, orch, folder, root):
        self.orch, self.folder, self.root = orch, folder, pathlib.Path(root)
        home = self.root / "home"
        home.mkdir(mode=0o700)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = {"egress": {"connect_to": {"suite.example.com:80": f"127.0.0.1:{server.server_port}"}}}
        (home / "config.yaml").write_text(json.dumps(config))
        (home / "config.yaml").chmod(0o600)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.root), "ORCH_HOME": str(home)}
        # No test asks a model, but there is no run without a key for one.
        self.environment["OPENAI_API_KEY"] = "sk-0123456789abcdef0123456789abcdef"

    def run(self, name):
        """Whether a test passed, and what was said where it did not."""
        test = next((test for pattern, test in TESTS.items() if fnmatch.fnmatchcase(name, pattern)), Test())
        agent = self.root / name
        agent.mkdir()
        (agent / "agent.wasm").write_bytes((self.folder / f"{name}.wasm").read_bytes())
        options = list(test.options)
        for guest, (access, files) in test.mounts.items():
            host = self.root / f"{name}-folder{guest.replace('/', '-')}"
            host.mkdir()
            for file, text in files.items():
                (host / file).parent.mkdir(exist_ok=True)
                (host / file).write_text(text)
            if name == "p1_stat_extreme_host_mtime":
                os.utime(host / "extreme.dat", ns=(1, -(1 << 62)))
            options += ["--mount", f"{host}::{guest}:{access}"]
        manifest = {
            "name": f"wasi/{name.replace('_', '-')}", "version": "1.0.0", "module": "agent.wasm",
            "supported_providers": ["any"], "egress": test.egress,
            "files": [
                {"path": guest, "access": "write" if access == "rw" else "read"}
                for guest, (access, _) in test.mounts.items()
            ],
        }
        (agent / "orch.yaml").write_text(json.dumps(manifest))
        environment = {
            "ERRNO_MODE_UNIX": "1", "WASI_TEST_ARGS": "\x1f".join([name, *test.arguments]),
            "HTTP_SERVER": "suite.example.com", **test.environment,
        }
        for variable, value in environment.items():
            options += ["--env", f"{variable}={value}"]
        for want in test.egress:
            options += ["--allow", f"{want['host']}:{want.get('port', 80)}"]
        command = [self.orch, "run", "--local", str(agent), "--json", *options]
        ended = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
        )
        said = ended.stdout + ended.stderr
        if test.code:
            return ended.returncode == test.code and test.says in said, said
        # What a test prints is no answer of an agent; that is said after it succeeded.
        return ended.returncode == 0 or "succeeded, but its output is not JSON" in said, said


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("orch")
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("names", nargs="*")
    given = arguments.parse_args()
    names = sorted(path.stem for path in given.folder.glob("p[12]_*.wasm"))
    if not names:
        sys.exit(f"no tests in {given.folder}: build.sh makes them")
    outcomes = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="orch-wasi-") as root:
        suite = Suite(os.path.abspath(given.orch), given.folder, root)
        for name in names:
            if given.names and name not in given.names:
                continue
            reason = next((why for pattern, why in SKIPPED.items() if fnmatch.fnmatchcase(name, pattern)), None)
            if reason and name not in given.names:
                outcomes["skipped"] += 1
                print(f"test {name} ... skipped: {reason}")
                continue
            try:
                passed, said = suite.run(name)
            except subprocess.TimeoutExpired:
                passed, said = False, "it does not end"
            outcomes["passed" if passed else "failed"] += 1
            print(f"test {name} ... {'ok' if passed else 'FAILED'}", flush=True)
            if not passed:
                print("\n".join(f"    {line}" for line in said.splitlines()))
    word = "FAILED" if outcomes["failed"] else "ok"
    counts = f"{outcomes['passed']} passed; {outcomes['failed']} failed; {outcomes['skipped']} ignored"
    print(f"test result: {word}. {counts}")
    return bool(outcomes["failed"])


if __name__ == "__main__":
    sys.exit(main())
