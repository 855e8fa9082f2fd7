//! Stage collect: files, folders and addresses become a corpus.
