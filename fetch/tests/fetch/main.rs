//! Fetching from servers of this process and from git repositories made by the tests.

mod git;
mod http;
mod hub;
mod object_store;
mod support;
mod tls;
