//! The binary as people use it: commands typed in a folder of their own, on a small model of small texts.

mod data;
mod errors;
mod flow;
#[cfg(unix)]
mod interrupt;
mod models;
mod project;
mod recipes;
mod tiny;
