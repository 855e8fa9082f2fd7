"""Tokens per second of the CPU engine and of llama.cpp, measured in turns: ratios that load of the machine changes little.

    cargo build --release -p inference --example decode_speed
    python inference/benches/llama_speed.py FOLDER [GGUF] --type int8 [--measure "decode 1,prefill 512,decode 16"]

FOLDER is a model in the Hugging Face layout, GGUF the same weights in the type's GGUF counterpart. Prints a row for
each measurement: medians of both and of the ratios of pairs. Needs llama-cpp-python, built for this processor.
"""

import argparse
import ctypes
import statistics
import subprocess
import time

import llama_cpp as L

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("gguf")
parser.add_argument("--program", default="target/release/examples/decode_speed")
parser.add_argument("--type", default="stored")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--pairs", type=int, default=5)
parser.add_argument("--measure", default="decode 1,prefill 512,decode 16")
arguments = parser.parse_args()

DECODED_TOKENS = 128  # as in decode_speed
MAX_SEQUENCES = 16

quiet = L.llama_log_callback(lambda *_: None)  # kept: the library calls it later
L.llama_log_set(quiet, ctypes.c_void_p(0))
L.llama_backend_init()
model = L.llama_model_load_from_file(arguments.gguf.encode(), L.llama_model_default_params())
assert model, arguments.gguf
parameters = L.llama_context_default_params()
parameters.n_ctx = (DECODED_TOKENS + 8) * MAX_SEQUENCES
parameters.n_batch = parameters.n_ubatch = 512
parameters.n_seq_max, parameters.kv_unified = MAX_SEQUENCES, True
parameters.n_threads = parameters.n_threads_batch = arguments.threads
context = L.llama_init_from_model(model, parameters)
vocab_size = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
memory = L.llama_get_memory(context)


def read(sequences, first, count):
    """Evaluates `count` tokens of each sequence; logits of the last of each."""
    batch = L.llama_batch_init(sequences * count, 0, 1)
    batch.n_tokens = sequences * count
    for i in range(sequences * count):
        sequence, position = i // count, first + i % count
        batch.token[i], batch.pos[i] = (position * 7919 + sequence + 13) % vocab_size, position
        batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, sequence, i % count == count - 1
    assert L.llama_decode(context, batch) == 0
    L.llama_synchronize(context)
    L.llama_batch_free(batch)


def llama_cpp(name, count):
    L.llama_memory_clear(memory, True)
    if name == "prefill":
        started = time.perf_counter()
        read(1, 0, count)
        return count / (time.perf_counter() - started)
    read(count, 0, 1)
    started = time.perf_counter()
    for position in range(1, DECODED_TOKENS + 1):
        read(count, position, 1)
    return count * DECODED_TOKENS / (time.perf_counter() - started)


command = [arguments.program, arguments.folder, arguments.type, str(arguments.threads), "in-turns"]
with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as engine:
    for measurement in arguments.measure.split(","):

        def ours():
            engine.stdin.write(measurement + "\n")
            engine.stdin.flush()
            return float(engine.stdout.readline())

        name, count = measurement.split(" ")
        pairs = []
        for i in range(arguments.pairs + 1):
            pair = (ours(), llama_cpp(name, int(count)))
            if i:  # the first is a warm-up
                pairs.append(pair)
        own, other = (statistics.median(values) for values in zip(*pairs))
        ratios = sorted(a / b for a, b in pairs)
        print(
            f"| {arguments.type} | {measurement} | {own:.1f} | {other:.1f} | {statistics.median(ratios):.2f} |"
            f" {ratios[0]:.2f} to {ratios[-1]:.2f} |",
            flush=True,
        )
    engine.stdin.close()
