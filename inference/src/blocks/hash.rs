//! Chained hashes of blocks of tokens.

use sha2::{Digest, Sha256};

/// The hash of a tenant and all tokens up to the end of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PrefixHash([u8; 32]);

impl PrefixHash {
    /// Returns the hash of no tokens.
    pub(super) fn root(tenant: &str) -> Self {
        Self::of(b"tenant", [tenant.as_bytes()])
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
    fn hash_depends_on_tenant_order_and_length() {
        let hashes = [
            PrefixHash::root(""),
            PrefixHash::root("a"),
            PrefixHash::root("").then(&[1, 2]),
            PrefixHash::root("").then(&[2, 1]),
            PrefixHash::root("").then(&[1]).then(&[2]),
            PrefixHash::root("a").then(&[1, 2]),
        ];
        for (i, a) in hashes.iter().enumerate() {
            assert!(hashes[..i].iter().all(|b| a != b), "{i}");
        }
        assert_eq!(PrefixHash::root("a").then(&[1, 2]), hashes[5]);
    }
}
