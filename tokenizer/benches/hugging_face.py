"""Trains and encodes with Hugging Face's tokenizers, for comparison with `examples/measure.rs`, on the same files.

    python benches/hugging_face.py train TOKENIZER.json VOCAB_SIZE PATTERN FILE...
    python benches/hugging_face.py encode TOKENIZER.json FILE...

RAYON_NUM_THREADS sets the number of threads. Prints seconds, MB/s, and the SHA-256 of all ids as little-endian u32.
"""

import hashlib
import json
import pathlib
import struct
import sys
import time

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def documents(paths):
    """One text for each line of a .jsonl file (its `text`), or for each other file."""
    for path in map(pathlib.Path, paths):
        if path.suffix == ".jsonl":
            with path.open(encoding="utf-8") as lines:
                yield from (json.loads(line)["text"] for line in lines)
        else:
            yield path.read_bytes().decode("utf-8")


def pre_tokenizer(pattern):
    def byte_level(use_regex):
        return pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=use_regex)

    if pattern == "gpt2":
        return byte_level(True)
    if pattern == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(True)])
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"), byte_level(False)])


def report(what, texts, seconds, more):
    size = sum(len(text.encode("utf-8")) for text in texts)
    print(json.dumps({"what": what, "bytes": size, "seconds": seconds, "mb_per_second": size / 1e6 / seconds, **more}))


def train(path, vocab_size, pattern, texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer(pattern)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[AddedToken(name, special=True) for name in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    start = time.perf_counter()
    tokenizer.train_from_iterator(texts, trainer)
    seconds = time.perf_counter() - start
    tokenizer.save(path)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = json.dumps([model["vocab"], model["merges"]], sort_keys=True).encode()
    report("train", texts, seconds, {"vocabulary": hashlib.sha256(vocabulary).hexdigest()})


def encode(path, texts):
    tokenizer = Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = True
    start = time.perf_counter()
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    seconds = time.perf_counter() - start
    digest, tokens = hashlib.sha256(), 0
    for encoding in encodings:
        tokens += len(encoding.ids)
        digest.update(struct.pack(f"<{len(encoding.ids)}I", *encoding.ids))
    report("encode", texts, seconds, {"tokens": tokens, "ids": digest.hexdigest()})


def main():
    if sys.argv[1] == "train":
        train(sys.argv[2], int(sys.argv[3]), sys.argv[4], list(documents(sys.argv[5:])))
    else:
        encode(sys.argv[2], list(documents(sys.argv[3:])))


if __name__ == "__main__":
    main()
