"""Compares GGUF files with what this project computes of the same models: `python read_by_llama_cpp.py FOLDER`.

For each NAME.json in the folder, NAME.gguf is read by gguf (a warning is an error) and by llama.cpp: tokens of texts,
logits, greedy tokens, and the chat template. Prints one line for each file, and exits with 1 if anything differs.
"""

import json
import logging
import pathlib
import sys
import warnings

import llama_cpp
import numpy as np
from gguf import GGUFReader


class Strict(logging.Handler):
    def emit(self, record):
        if record.levelno >= logging.WARNING:
            raise AssertionError(record.getMessage())


def check(path, expected):
    reader = GGUFReader(path)
    assert reader.fields["GGUF.version"].parts[-1][0] == 3
    assert {tensor.name for tensor in reader.tensors} >= {"token_embd.weight", "output_norm.weight"}
    model = llama_cpp.Llama(str(path), n_ctx=expected["context"], n_threads=2, logits_all=True, verbose=False,
                            n_batch=expected["context"], flash_attn=False, type_k=0, type_v=0)
    for text, ids in zip(expected["texts"], expected["encoded"]):
        found = model.tokenize(text.encode(), add_bos=False, special=False)
        assert found == ids, f"{text!r} is {found}, expected {ids}"
    model.reset()
    model.eval(expected["ids"])
    logits = np.array(model.scores[: len(expected["ids"])], dtype=np.float32)
    wanted = np.array(expected["logits"], dtype=np.float32).reshape(len(expected["ids"]), -1)
    assert logits.shape == wanted.shape, f"{logits.shape} logits, expected {wanted.shape}"
    difference = float(np.abs(logits - wanted).max())
    assert difference <= expected["tolerance"], f"logits differ by {difference}"
    equal = "not compared"
    if expected["greedy"]:
        tokens, ids = [], list(expected["ids"])
        model.reset()
        model.eval(ids)
        for _ in expected["greedy"]:
            tokens.append(int(np.argmax(model.scores[model.n_tokens - 1])))
            model.eval(tokens[-1:])
        assert tokens == expected["greedy"], f"{tokens}, expected {expected['greedy']}"
        equal = f"{len(tokens)} equal"
    assert model.metadata.get("tokenizer.chat_template") == expected["template"]
    return f"logits differ by {difference:.1e}, greedy tokens {equal}, {len(expected['texts'])} texts encoded equally"


logging.getLogger().addHandler(Strict())
warnings.simplefilter("error")
failed = False
paths = sorted(pathlib.Path(sys.argv[1]).glob("*.json"))
assert paths
for path in paths:
    try:
        print(f"{path.stem}: {check(path.with_suffix('.gguf'), json.loads(path.read_text()))}")
    except (AssertionError, ValueError, RuntimeError) as error:
        print(f"{path.stem}: FAILED: {error}")
        failed = True
sys.exit(failed)
