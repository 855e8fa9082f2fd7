//! Stage optimize: a checkpoint becomes a bundle ready to serve.
