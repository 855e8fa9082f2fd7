//! Fetching from servers of this process and from git repositories made by the tests.

mod git;
mod http;
mod hub;
mod object_store;
#[path = "../server/mod.rs"]
mod server;
mod support;
mod tls;
