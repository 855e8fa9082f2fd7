//! The configuration of the step, and the kinds of finds.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The table `[preprocess.redact]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The kinds to find, of `"secret"`, `"email"`, `"iban"`, `"card"`, `"ipv6"`, `"ipv4"`, `"user"` and `"phone"`.
    /// Default: all.
    pub kinds: Vec<Kind>,
    /// The action for a document with a find: `"replace"` replaces each find by a placeholder, `"drop"` drops the
    /// document. Default `"replace"`.
    pub action: Action,
    /// The actions of kinds that differ from `action`: `actions = { secret = "drop" }`. Default: none.
    pub actions: BTreeMap<Kind, Action>,
    /// Also finds addresses of private networks, which mean nothing outside their network: RFC 1918, carrier-grade NAT
    /// (RFC 6598), link-local and unique local addresses (RFC 4193). Loopback, unspecified, documentation, multicast
    /// and broadcast addresses and netmasks are never found. Default false.
    pub private_addresses: bool,
    /// Values that are never replaced, such as a project's public address; ASCII letters match in either case. Default:
    /// none.
    pub allow: Vec<String>,
}

/// The kinds of finds, in order of precedence: of two overlapping finds, the one whose kind comes first here is kept;
/// within a kind, the one that begins first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A key or token of a common service, a signed JSON web token, a password in a URL, a private key in PEM.
    Secret,
    /// An e-mail address whose domain can exist; those of RFC 2606 (`example.org`, `.test`) cannot.
    Email,
    /// An international bank account number with its country's length and valid check digits (ISO 13616).
    Iban,
    /// A payment card number with a known issuer, its length and a valid check digit (ISO/IEC 7812).
    Card,
    /// A global IPv6 address.
    Ipv6,
    /// A global IPv4 address.
    Ipv4,
    /// A person's name in the path of a home folder: `/home/NAME`, `/Users/NAME`, `C:\Users\NAME`. Generic names of
    /// systems and manuals (`root`, `runner`, `Public`, `user`) stay.
    User,
    /// A telephone number in international form, in a format common in its country, or after a label such as `phone`.
    Phone,
}

/// The number of kinds.
pub const KINDS: usize = 8;

/// The action for a document with a find.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Each find is replaced by a placeholder.
    #[default]
    Replace,
    /// The document is dropped.
    Drop,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kinds: Kind::ALL.to_vec(),
            action: Action::default(),
            actions: BTreeMap::new(),
            private_addresses: false,
            allow: Vec::new(),
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Returns the key of the first invalid value, and why it is invalid.
    pub fn validate(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        if self.kinds.is_empty() {
            return Err("kinds is empty; remove the step to disable redaction".to_owned());
        }
        if let Some(twice) = self.kinds.iter().find(|kind| !seen.insert(**kind)) {
            return Err(format!("kinds has `{}` twice", twice.name()));
        }
        if let Some(idle) = self.actions.keys().find(|kind| !seen.contains(kind)) {
            return Err(format!("actions has `{}`, which is not in kinds", idle.name()));
        }
        if self.allow.iter().any(String::is_empty) {
            return Err("allow has an empty value".to_owned());
        }
        Ok(())
    }

    /// Returns the action for a document with a find of `kind`.
    pub fn action(&self, kind: Kind) -> Action {
        self.actions.get(&kind).copied().unwrap_or(self.action)
    }
}

impl Kind {
    /// All kinds, in order of precedence.
    pub const ALL: [Self; KINDS] =
        [Self::Secret, Self::Email, Self::Iban, Self::Card, Self::Ipv6, Self::Ipv4, Self::User, Self::Phone];

    /// Returns the name in the configuration and in counts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Email => "email",
            Self::Iban => "iban",
            Self::Card => "card",
            Self::Ipv6 => "ipv6",
            Self::Ipv4 => "ipv4",
            Self::User => "user",
            Self::Phone => "phone",
        }
    }

    /// Returns the placeholder of a find.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Secret => "<SECRET>",
            Self::Email => "<EMAIL>",
            Self::Iban => "<IBAN>",
            Self::Card => "<CARD>",
            Self::Ipv6 => "<IPV6>",
            Self::Ipv4 => "<IPV4>",
            Self::User => "<USER>",
            Self::Phone => "<PHONE>",
        }
    }
}
