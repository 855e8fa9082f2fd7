//! Stage generate, and the decoding library that evaluate and serve call.
