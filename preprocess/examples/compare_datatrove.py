"""Runs datatrove's filters and its exact deduplication over the same documents as compare.rs, one core, and compares the
decisions.

Usage: python compare_datatrove.py DOCUMENTS.jsonl OURS.jsonl [RULE ...]
Needs:  pip install datatrove==0.10.1 spacy nltk   (regex comes with datatrove)

Speed is megabytes of UTF-8 per second of processor time; each filter splits the words itself, as in datatrove. A decision
that differs is repeated by datatrove's own filter with its words and sentences replaced by ours, as found by
tests/fixtures/annex.py, not by our code: if it then agrees, word splitting is the cause. The remaining ones are listed.
"""

import json
import os
import sys
import tempfile
import time
from collections import Counter

from datatrove.data import Document
from datatrove.pipeline.dedup.exact_dedup import (
    ExactDedupConfig,
    ExactDedupFilter,
    ExactDedupSignature,
    ExactFindDedups,
)
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.logging import logger
from datatrove.utils.word_tokenizers import load_word_tokenizer

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "fixtures"))
import annex

FILTERS = {
    "gopher_repetition": GopherRepetitionFilter,
    "gopher_quality": GopherQualityFilter,
    "c4": C4QualityFilter,
    "fineweb": FineWebQualityFilter,
}
EXACT_DUPLICATES = "exact_duplicates"


def decide(rule_filter, document):
    """Returns why the filter drops the document, or None."""
    try:
        result = rule_filter.filter(Document(text=document["text"], id=document["id"]))
    except ZeroDivisionError:
        return "nothing to divide by"
    return None if result is True else result[1]


def text_of(document) -> str:
    return document.text


def without_duplicates(documents):
    """Returns why each document is dropped as equal to one before it, or None; and the seconds of the three stages."""
    documents = [Document(text=document["text"], id=str(number)) for number, document in enumerate(documents)]
    config = ExactDedupConfig(content_getter=text_of)
    with tempfile.TemporaryDirectory() as folder:
        signatures, found = (os.path.join(folder, name) for name in ("signatures", "found"))
        begin = time.process_time()
        ExactDedupSignature(output_folder=signatures, config=config).run(documents, rank=0, world_size=1)
        ExactFindDedups(data_folder=signatures, output_folder=found, config=config).run(rank=0, world_size=1)
        kept = list(ExactDedupFilter(data_folder=found, config=config).run(documents, rank=0, world_size=1))
        seconds = time.process_time() - begin
    kept = {document.id for document in kept}
    return [None if document.id in kept else "duplicate" for document in documents], seconds


def main():
    logger.remove()
    arguments = sys.argv[1:]
    documents = [json.loads(line) for line in open(arguments[0], encoding="utf-8")]
    ours = [json.loads(line) for line in open(arguments[1], encoding="utf-8")]
    rules = arguments[2:] or [*FILTERS, EXACT_DUPLICATES]
    megabytes = sum(len(document["text"].encode()) for document in documents) / 1e6
    print(f"{len(documents)} documents, {megabytes:.1f} MB")
    load_word_tokenizer("en").word_tokenize("Loaded before the clock runs.")
    for rule in rules:
        if rule == EXACT_DUPLICATES:
            theirs, seconds = without_duplicates(documents)
            kept = sum(their is None for their in theirs), sum(our[rule]["failed"] is None for our in ours)
            agree = sum((their is None) == (our[rule]["failed"] is None) for their, our in zip(theirs, ours))
            print(f"{rule}: {megabytes / seconds:.2f} MB/s, kept {kept[0]} there and {kept[1]} here, "
                  f"agree {100 * agree / len(documents):.2f} %", flush=True)
            continue
        rule_filter = FILTERS[rule]()
        begin = time.thread_time()
        theirs = [decide(rule_filter, document) for document in documents]
        seconds = time.thread_time() - begin
        causes, rest = Counter(), []
        with annex.patched():
            for document, their, our in zip(documents, theirs, ours):
                our = our[rule]["failed"]
                if (their is None) == (our is None):
                    continue
                again = decide(rule_filter, document)
                same_words = (again is None) == (our is None)
                causes[("word splitting" if same_words else "other", f"theirs {their}, ours {our}")] += 1
                if not same_words:
                    rest.append((document["id"], their, again, our))
        differing = sum(causes.values())
        kept = sum(their is None for their in theirs), sum(our[rule]["failed"] is None for our in ours)
        print(f"{rule}: {megabytes / seconds:.2f} MB/s, kept {kept[0]} there and {kept[1]} here, "
              f"agree {100 * (1 - differing / len(documents)):.2f} %", flush=True)
        for (cause, what), count in causes.most_common():
            print(f"    {count:5} {cause}: {what}")
        for what in rest[:20]:
            print("    other cause:", *what)


if __name__ == "__main__":
    main()
