//! Decoding: the loop that extends a sequence token by token, and the sampler.
