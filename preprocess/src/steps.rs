//! The steps that look at one document at a time.

pub mod decontaminate;
pub mod language;
pub mod quality;
pub mod repair;
