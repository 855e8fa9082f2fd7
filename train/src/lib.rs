//! Stage train: token shards become a checkpoint.
