//! Files from elsewhere: the Hugging Face Hub, HTTP, object stores and git, with a cache, digests and address checks.
