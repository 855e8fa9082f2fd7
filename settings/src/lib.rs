//! Configuration files: positions of keys, unknown keys, suggestions for misspelt names.
