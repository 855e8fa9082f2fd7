//! Stage preprocess: a corpus becomes token shards.
