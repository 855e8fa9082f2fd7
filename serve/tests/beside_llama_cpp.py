"""Compares `pipeline serve` with llama.cpp's server: the same weights, prompts, client and number of processors, in turns.

    cargo build --release --bin pipeline --example throughput
    cmake -B build LLAMA.CPP && cmake --build build --config Release --target llama-server
    python serve/tests/beside_llama_cpp.py MODEL.gguf --llama-server build/bin/llama-server [--clients 1,16,64,shared]

Each server is started for each measurement, with as many slots as there are clients, and room for the longest prompt
and text in each; everything else is its default. Every prompt is random and its text has 128 tokens. Prints a
row for each number of clients: medians of both servers and of the ratios of pairs, with their range. `shared` in place
of a number is one client whose prompts begin with the same 400 tokens, beside prompts that do not. A ratio above 1
means that this server is better.
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

SLOT_TOKENS = 768  # 500 of a prompt, 128 of a text, and llama.cpp rounds to multiples of 256

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("gguf")
parser.add_argument("--llama-server", required=True)
parser.add_argument("--clients", default="1,16,64,shared")
parser.add_argument("--pairs", type=int, default=3)
parser.add_argument("--processors", type=int, default=2)
parser.add_argument("--program", default="target/release/pipeline")
parser.add_argument("--client", default="target/release/examples/throughput")
parser.add_argument("--set", action="append", default=[], help="another key of [serve], such as kv_cache_dtype=\"f16\"")
arguments = parser.parse_args()
processors = sorted(os.sched_getaffinity(0))[: arguments.processors]
folder = tempfile.TemporaryDirectory()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def command(server, port, slots):
    if server == "llama.cpp":
        threads = str(len(processors))
        options = ["--parallel", str(slots), "--ctx-size", str(slots * SLOT_TOKENS), "--threads", threads]
        return [arguments.llama_server, "--model", arguments.gguf, "--port", str(port), *options, "--threads-batch", threads]
    keys = [f"max_concurrent_requests = {slots}", f"kv_cache_tokens = {slots * SLOT_TOKENS}", f"max_queue = {slots}"]
    config = pathlib.Path(folder.name, "pipeline.toml")
    config.write_text("[serve]\n" + "\n".join(keys + arguments.set) + "\n")
    return [arguments.program, "serve", arguments.gguf, "--config", str(config), "--port", str(port), "--device", "cpu"]


def wait_until_ready(url, process):
    for _ in range(600):
        if process.poll() is not None:
            sys.exit(f"the server ended: {pathlib.Path(folder.name, 'log').read_text()[-2000:]}")
        try:
            urllib.request.urlopen(url + "/v1/models", timeout=5)
            body = json.dumps({"prompt": [5, 6, 7], "max_tokens": 8}).encode()
            request = urllib.request.Request(url + "/v1/completions", body, {"Content-Type": "application/json"})
            return urllib.request.urlopen(request, timeout=60).read()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    sys.exit("the server is not ready after a minute")


def measure(server, slots, *workloads):
    """Starts a server, and returns what its clients measure for each workload."""
    port = free_port()
    bind = lambda: os.sched_setaffinity(0, processors)
    log = open(pathlib.Path(folder.name, "log"), "wb")
    with subprocess.Popen(command(server, port, slots), stdout=log, stderr=log, preexec_fn=bind) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            client = [arguments.client, f"127.0.0.1:{port}"]
            return [json.loads(subprocess.check_output(client + workload.split())) for workload in workloads]
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def row(name, what, own, other, ratios, digits):
    ratios = sorted(ratios)
    ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    own, other = statistics.median(own), statistics.median(other)
    print(f"| {name} | {what} | {own:.{digits}f} | {other:.{digits}f} | {ratio} |", flush=True)


def compare(name, slots, rows, workload):
    pairs = []
    for pair in range(arguments.pairs):
        seeded = f"{workload} seed={pair + 1}"
        pairs.append([measure(server, slots, seeded)[0] for server in ("pipeline", "llama.cpp")])
    for what, key, digits, is_time in rows:
        own, other = ([of[key] for of in side] for side in zip(*pairs))
        ratios = [b / a if is_time else a / b for a, b in zip(own, other)]
        row(name, what, own, other, ratios, digits)


THROUGHPUT = ("all tokens per second", "tokens_per_second", 1, False)
FIRST = [(f"first token, {p}, s", f"first_token_{p}", 3, True) for p in ("p50", "p95")]
DECODE = ("decode, tokens per second", "decode_tokens_per_second", 1, False)
print(f"| clients of {pathlib.Path(arguments.gguf).name} | measurement | pipeline | llama.cpp | ratio of pairs |\n|---|---|---|---|---|")
for clients in arguments.clients.split(","):
    if clients == "shared":
        workload = "requests=12 min_prompt_tokens=416 max_prompt_tokens=432 max_tokens=8"
        for server in ("pipeline", "llama.cpp"):
            runs = [
                measure(server, 1, f"{workload} seed={seed} shared_tokens=400", f"{workload} seed={seed + 99}")
                for seed in range(1, arguments.pairs + 1)
            ]
            shared, alone = ([run["first_token_p50"] for run in side] for side in zip(*runs))
            name = f"first token of {server}, 400 tokens shared | and not"
            row(1, name, shared, alone, [b / a for a, b in zip(shared, alone)], 4)
    elif clients == "1":
        compare(1, 1, [DECODE, *FIRST], "clients=1 requests=6")
    else:
        compare(clients, int(clients), [THROUGHPUT, *FIRST], f"clients={clients} requests=2")
