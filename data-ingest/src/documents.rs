//! Conversion of records into documents: columns, templates, conversations and rejections.

pub(crate) mod batch;
pub(crate) mod chat;
pub(crate) mod counts;
pub(crate) mod document;
pub(crate) mod field;
pub(crate) mod mapping;
pub(crate) mod rejection;
pub(crate) mod template;
