//! Scaffolding for tests: tiny models, local servers, corpora.
