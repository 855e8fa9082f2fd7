//! The binary from the outside: commands in a folder of their own, with a small model of small texts.

mod chat;
mod chat_training;
mod compression;
mod data;
mod errors;
mod evaluate;
mod experiments;
mod flow;
mod gates;
#[cfg(unix)]
mod interrupt;
mod judge;
mod memorisation;
mod models;
mod project;
mod recipes;
mod sweep;
mod tiny;
mod trace;
#[cfg(unix)]
mod ui;
