//! Names of datasets and models on the Hugging Face Hub.

/// A dataset or a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubRepository {
    is_dataset: bool,
    /// `owner/name`, or `name` for the oldest ones.
    id: String,
}

impl HubRepository {
    /// Parses `datasets/owner/name` or `owner/name`.
    ///
    /// # Errors
    /// Returns what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("spaces/") {
            return Err("a space is a program, not data; name a dataset (`datasets/owner/name`) or a model".to_owned());
        }
        let (is_dataset, id) = text.strip_prefix("datasets/").map_or((false, text), |id| (true, id));
        let is_name = |part: &str| {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && part.chars().all(is_allowed) && !part.starts_with(['.', '-']) && !part.contains("..")
        };
        let parts: Vec<&str> = id.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_name(part)) {
            return Err(format!("`{text}` is neither `datasets/owner/name` nor `owner/name`"));
        }
        Ok(Self { is_dataset, id: id.to_owned() })
    }

    /// Returns `owner/name`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns whether it is a dataset rather than a model.
    pub fn is_dataset(&self) -> bool {
        self.is_dataset
    }
}
