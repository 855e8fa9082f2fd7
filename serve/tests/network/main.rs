//! A real server on a free port with a tiny random model: its connections, keys, models and routes.

mod clients;
mod connections;
mod keys;
mod models;
mod requests;
mod server;
mod tls;
