//! A real server on a free port with a tiny random model: its answers, connections, keys, models, adapters and routes.

mod adapters;
mod attention;
mod chat;
mod clients;
mod completions;
mod connections;
mod decoding;
mod embeddings;
mod hostile;
mod keys;
mod models;
mod page;
mod passages;
mod requests;
mod same_texts;
mod server;
mod tls;
