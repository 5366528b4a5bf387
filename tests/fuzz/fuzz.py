"""Runs schemathesis against a service of its own on embedded nodes, for a bounded time.

    fuzz.py path/to/roundelay seconds [seed]

Fails on an answer that specs/openapi.json does not describe, on a 5xx, on one that takes more than ten
seconds, and if the service is not there and small afterwards.
"""

import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
DESCRIPTION = HERE.parent.parent / "specs" / "openapi.json"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,allow_header_conformance"
)
# With it everything that is described is served, and nobody waits longer than the fuzzer does.
CONFIG = """
[service]
admin_mode = true
max_wait = 1
[auth]
signed_url_secret_key = "a key of sixteen bytes"
"""
# The most that the service may have had in memory, in MiB. It keeps what is posted to it.
MOST_MEMORY = 1024


def clean_environment():
    return {key: value for key, value in os.environ.items() if not key.startswith("ROUNDELAY_")}


def start(program, folder):
    config = Path(folder, "roundelay.toml")
    config.write_text(CONFIG)
    command = [
        program, "serve", "--listen", "127.0.0.1:0", "--config", str(config),
        "--log", "warn,roundelay::access=info",
    ]
    environment = clean_environment() | {"NO_COLOR": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    line = process.stderr.readline()
    found = re.search(r"listening on (http://[^ ,]+)", line)
    assert found, line
    log = []
    # Its log must go somewhere, or it would wait for a reader.
    threading.Thread(target=lambda: log.extend(process.stderr), daemon=True).start()
    return process, found[1], log


def fuzz(url, seconds, seed):
    command = [
        Path(sys.executable).with_name("schemathesis"), "run", DESCRIPTION, "--url", url,
        "--checks", CHECKS, "--max-time", str(seconds), "--request-timeout", "10",
        "--max-failures", "20", "--continue-on-failure", "--seed", str(seed), "--warnings", "off",
        "--generation-database", "none", "--suppress-health-check", "all", "--no-color",
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE), "FUZZ_URL": url}
    environment = clean_environment() | hooks
    # In a folder of its own: it would leave files behind.
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(command, env=environment, cwd=folder).returncode


def answers(log):
    """How many answers had which status, for those who wonder how far it came."""
    statuses = Counter(found[1] for line in log if (found := re.search(r"status=(\d+)", line)))
    return ", ".join(f"{count} of {status}" for status, count in sorted(statuses.items()))


def most_memory(process):
    """The most memory that it has had, in MiB."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return 0
    return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) // 1024


def main(program, seconds, seed):
    seed = int(seed) if seed else secrets.randbelow(2**31)
    print(f"fuzz: {seconds} seconds, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        process, url, log = start(program, folder)
        failed = fuzz(url, int(seconds), seed)
        alive = process.poll() is None
        memory = most_memory(process) if alive else 0
        process.terminate()
        ended = process.wait(20)
    if failed or not alive or ended or memory > MOST_MEMORY:
        print("".join(line for line in log if " INFO " not in line), end="")
        print(f"fuzz: FAILED with seed {seed}; alive {alive}, ended {ended}, {memory} MiB")
        return 1
    print(f"fuzz: all well; {answers(log)}; the service had at most {memory} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
