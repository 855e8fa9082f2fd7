//! Addresses in object stores: an object, a prefix or a glob of a bucket.

/// A provider of an object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    Amazon,
    Google,
    Azure,
}

/// Objects in a bucket: one, all under a prefix, or those that a glob matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPattern {
    pub(crate) provider: Provider,
    /// The address as written.
    pub(crate) address: String,
    /// The address without the key: `s3://bucket`.
    pub(crate) bucket: String,
    /// The key of the object, or of the folder above all of them, without slashes around it.
    pub(crate) root: String,
    /// The glob that keys match, relative to the root.
    pub(crate) glob: Option<String>,
    /// Whether requests are sent unsigned.
    pub(crate) anonymous: bool,
}

impl ObjectPattern {
    /// Parses an address; returns `None` if it is not one of an object store.
    ///
    /// # Errors
    /// The inner result holds what is wrong with an address of an object store.
    pub fn parse(address: &str, anonymous: bool) -> Option<Result<Self, String>> {
        let (scheme, rest) = address.split_once("://")?;
        let provider = match scheme {
            "s3" | "s3a" => Provider::Amazon,
            "gs" => Provider::Google,
            "az" | "abfs" | "abfss" => Provider::Azure,
            _ => return None,
        };
        let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains(['*', '?', '[', '{']) {
            return Some(Err(format!(
                "`{address}` names no bucket; an address is `{scheme}://bucket/prefix/**/*.parquet`"
            )));
        }
        let parts: Vec<&str> = key.split('/').filter(|part| !part.is_empty()).collect();
        let first_wild = parts.iter().position(|part| part.contains(['*', '?', '[', '{']));
        let (root, glob) = parts.split_at(first_wild.unwrap_or(parts.len()));
        Some(Ok(Self {
            provider,
            address: address.to_owned(),
            bucket: format!("{scheme}://{authority}"),
            root: root.join("/"),
            glob: (!glob.is_empty()).then(|| glob.join("/")),
            anonymous,
        }))
    }

    /// Returns whether the address has a glob.
    pub fn is_glob(&self) -> bool {
        self.glob.is_some()
    }

    /// Returns the key of the file with this path inside the source.
    pub(crate) fn key(&self, path: &str) -> String {
        // A source that is one object has one file, named as the object is; listing tells which it is.
        let is_root_itself = self.root.rsplit('/').next() == Some(path) && self.glob.is_none();
        match self.root.as_str() {
            root if is_root_itself => root.to_owned(),
            "" => path.to_owned(),
            root => format!("{root}/{path}"),
        }
    }
}
