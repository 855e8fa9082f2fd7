//! Chained hashes of blocks of tokens.

use sha2::{Digest, Sha256};

/// Whose blocks are shared: those of one tenant that are computed with the same adapter.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The name of the tenant.
    pub tenant: &'a str,
    /// The digest of the adapter; none without one.
    pub adapter: Option<&'a [u8; 32]>,
}

impl<'a> From<&'a str> for Owner<'a> {
    fn from(tenant: &'a str) -> Self {
        Self { tenant, adapter: None }
    }
}

/// The hash of an owner and all tokens up to the end of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PrefixHash([u8; 32]);

impl PrefixHash {
    /// Returns the hash of no tokens.
    pub(super) fn root(owner: Owner<'_>) -> Self {
        let of_tenant = Self::of(b"tenant", [owner.tenant.as_bytes()]);
        match owner.adapter {
            Some(adapter) => Self::of(b"adapter", [&of_tenant.0[..], adapter]),
            None => of_tenant,
        }
    }

    /// Returns the hash of these tokens and the block that follows them.
    pub(super) fn then(self, tokens: &[u32]) -> Self {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        Self::of(b"block", [&self.0[..], &bytes])
    }

    fn of<const N: usize>(domain: &[u8], parts: [&[u8]; N]) -> Self {
        let mut hasher = Sha256::new_with_prefix(domain);
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_depends_on_owner_order_and_length() {
        let root = |tenant, adapter| PrefixHash::root(Owner { tenant, adapter });
        let hashes = [
            root("", None),
            root("a", None),
            root("", None).then(&[1, 2]),
            root("", None).then(&[2, 1]),
            root("", None).then(&[1]).then(&[2]),
            root("a", None).then(&[1, 2]),
            root("a", Some(&[0; 32])).then(&[1, 2]),
            root("", Some(&[0; 32])).then(&[1, 2]),
            root("a", Some(&[1; 32])).then(&[1, 2]),
        ];
        for (i, a) in hashes.iter().enumerate() {
            assert!(hashes[..i].iter().all(|b| a != b), "{i}");
        }
        assert_eq!(PrefixHash::root("a".into()).then(&[1, 2]), hashes[5]);
    }
}
