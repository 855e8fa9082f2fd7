//! File formats: how a file, also compressed or in an archive, becomes records.

pub(crate) mod archive;
pub(crate) mod arrow;
pub(crate) mod captions;
pub(crate) mod columnar;
pub(crate) mod decompress;
pub(crate) mod delimited;
pub(crate) mod encoding;
pub(crate) mod format;
pub(crate) mod html;
pub(crate) mod http_response;
pub(crate) mod json;
pub(crate) mod json_rows;
pub(crate) mod limits;
pub(crate) mod parquet;
pub(crate) mod reader;
pub(crate) mod table;
pub(crate) mod warc;
