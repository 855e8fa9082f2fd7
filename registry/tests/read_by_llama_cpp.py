"""Compares GGUF files with what this project computes of the same models: `python read_by_llama_cpp.py FOLDER`.

For each NAME.json in the folder, NAME.gguf is read by gguf (a warning is an error) and by llama.cpp: tokens of texts,
log-probabilities, greedy tokens, and a conversation in the chat template. llama.cpp is that of xllamacpp, whose server
runs in this process on a free port of the loopback interface. Prints one line for each file, and exits with 1 if
anything differs.
"""

import json
import logging
import pathlib
import sys
import urllib.request
import warnings

import numpy as np
import xllamacpp
from gguf import GGUFReader


class Strict(logging.Handler):
    def emit(self, record):
        if record.levelno >= logging.WARNING:
            raise AssertionError(record.getMessage())


class LlamaCpp:
    """A server of llama.cpp with one model, in f32 as far as the file is."""

    def __init__(self, path, context):
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = context
        parameters.n_parallel = 1
        parameters.n_gpu_layers = 0
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.verbosity = 1
        parameters.warmup = parameters.fit_params = False
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        self.server = xllamacpp.Server(parameters)
        self.letter = self.tokenize("a")[-1]

    def post(self, path, **body):
        # A connection for each request: on a kept one, every answer waits 40 ms for a delayed acknowledgement.
        request = urllib.request.Request(self.server.listening_address + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def tokenize(self, text):
        return self.post("/tokenize", content=text, add_special=False, parse_special=False)["tokens"]

    def next(self, ids, n_probs=1):
        """Returns the most probable tokens after `ids`, the most probable first, and their log-probabilities."""
        # Probabilities are sent with the token that is sampled, but not if it is part of a character: sample a letter.
        answer = self.post("/completion", prompt=ids, n_predict=1, n_probs=n_probs, temperature=0,
                           logit_bias=[[self.letter, 1e6]], post_sampling_probs=False, cache_prompt=True)
        top = answer["completion_probabilities"][0]["top_logprobs"]
        return [token["id"] for token in top], [token["logprob"] for token in top]


def compare(model, expected):
    for text, ids in zip(expected["texts"], expected["encoded"], strict=True):
        found = model.tokenize(text)
        assert found == ids, f"{text!r} is {found}, expected {ids}"
    ids = expected["ids"]
    logits = np.array(expected["logits"], dtype=np.float64).reshape(len(ids), -1)
    wanted = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    difference = 0.0
    for position, wanted in enumerate(wanted, start=1):
        tokens, found = model.next(ids[:position], n_probs=len(wanted))
        assert sorted(tokens) == list(range(len(wanted))), f"{len(tokens)} tokens, expected {len(wanted)}"
        difference = max(difference, float(np.abs(wanted[tokens] - found).max()))
    assert difference <= expected["tolerance"], f"log-probabilities differ by {difference}"
    equal = "not compared"
    if expected["greedy"]:
        tokens = []
        for _ in expected["greedy"]:
            tokens.append(model.next(ids + tokens)[0][0])
        assert tokens == expected["greedy"], f"{tokens}, expected {expected['greedy']}"
        equal = f"{len(tokens)} equal"
    if expected["conversation"]:
        found = model.post("/apply-template", messages=expected["conversation"])["prompt"]
        assert found == expected["rendered"], f"the conversation is {found!r}, expected {expected['rendered']!r}"
    texts = f"{len(expected['texts'])} texts encoded equally"
    return f"log-probabilities differ by {difference:.1e}, greedy tokens {equal}, {texts}"


def check(path, expected):
    reader = GGUFReader(path)
    assert reader.fields["GGUF.version"].parts[-1][0] == 3
    assert {tensor.name for tensor in reader.tensors} >= {"token_embd.weight", "output_norm.weight"}
    template = reader.get_field("tokenizer.chat_template")
    assert (template and template.contents()) == expected["template"]
    # The server ends with the last reference to it.
    return compare(LlamaCpp(path, expected["context"]), expected)


logging.getLogger().addHandler(Strict())
warnings.simplefilter("error")
failed = False
paths = sorted(pathlib.Path(sys.argv[1]).glob("*.json"))
assert paths
for path in paths:
    try:
        print(f"{path.stem}: {check(path.with_suffix('.gguf'), json.loads(path.read_text()))}", flush=True)
    except (AssertionError, ValueError, RuntimeError) as error:
        print(f"{path.stem}: FAILED: {error}", flush=True)
        failed = True
sys.exit(failed)
