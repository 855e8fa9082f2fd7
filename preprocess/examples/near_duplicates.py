"""The counterpart of `near_duplicates.rs`: datatrove's MinHash over the same documents, timed per stage on one core.

    python near_duplicates.py DOCUMENTS.jsonl KEPT.txt

Writes the ids of the kept documents to KEPT.txt.
"""

import json
import os
import sys
import tempfile
import time

os.environ["DATATROVE_COLORIZE_LOGS"] = "0"
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.utils.logging import logger

logger.remove()
documents_path, kept_path = sys.argv[1:]
with open(documents_path, encoding="utf-8") as lines:
    documents = [Document(**{key: json.loads(line)[key] for key in ("id", "text")}) for line in lines]
megabytes = sum(len(document.text.encode()) for document in documents) / 1e6
config = MinhashConfig()
with tempfile.TemporaryDirectory() as folder:
    signatures, buckets, removed = (os.path.join(folder, name) for name in ("signatures", "buckets", "removed"))

    def timed(name, step):
        started = time.process_time()
        result = step()
        seconds = time.process_time() - started
        print(f"{name}: {seconds:.3f} s of one core, {megabytes / seconds:.3f} MB/s")
        return result

    signature = MinhashDedupSignature(output_folder=signatures, config=config)
    signature.get_shingles("The tokenizer is loaded before the clock starts.")
    timed("signatures", lambda: signature.run(documents, rank=0, world_size=1))

    def find():
        step = MinhashDedupBuckets(input_folder=signatures, output_folder=buckets, config=config)
        for bucket in range(config.num_buckets):
            step.run(None, rank=bucket, world_size=config.num_buckets)

    timed("buckets", find)
    cluster = MinhashDedupCluster(input_folder=buckets, output_folder=removed, config=config)
    timed("cluster", lambda: cluster.run(None, 0, 1))
    keep = MinhashDedupFilter(input_folder=removed)
    kept = timed("filter", lambda: list(keep.run(documents, rank=0, world_size=1)))
print(f"{len(kept)} kept of {len(documents)}, {megabytes:.1f} MB")
with open(kept_path, "w", encoding="utf-8") as out:
    out.writelines(f"{document.id}\n" for document in kept)
