//! The configuration of the step, and the kinds of finds.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The table `[preprocess.redact]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is looked for, of `"secret"`, `"email"`, `"iban"`, `"card"`, `"ipv6"`, `"ipv4"`, `"user"` and `"phone"`.
    /// Default: all.
    pub kinds: Vec<Kind>,
    /// What becomes of a document with a find: `"replace"` puts a placeholder in the find's place, `"drop"` drops the
    /// document. Default `"replace"`.
    pub action: Action,
    /// Actions of single kinds where they differ from `action`: `actions = { secret = "drop" }`. Default: none.
    pub actions: BTreeMap<Kind, Action>,
    /// Whether addresses of private networks count as finds: RFC 1918, carrier-grade NAT (RFC 6598), link-local and
    /// unique local ones (RFC 4193). They mean nothing outside their network. Loopback, unspecified, documentation,
    /// multicast and broadcast addresses and netmasks never count. Default false.
    pub private_addresses: bool,
    /// Values that stay wherever they are found, ASCII letters in either case: a project's own public address. Default:
    /// none.
    pub allow: Vec<String>,
}

/// What is looked for. The order is that of precedence: of two finds that overlap, the one whose kind comes first here
/// stays; within a kind, the one that begins first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A key or token of a common service, a signed JSON web token, a password in a URL, a private key in PEM.
    Secret,
    /// An e-mail address at a domain that can exist; those of RFC 2606 (`example.org`, `.test`) cannot.
    Email,
    /// An international bank account number with the length of its country and right check digits (ISO 13616).
    Iban,
    /// A number of a payment card: issuer, length and check digit (ISO/IEC 7812) are right.
    Card,
    /// A global IPv6 address.
    Ipv6,
    /// A global IPv4 address.
    Ipv4,
    /// A person's name in the path of a home folder: `/home/NAME`, `/Users/NAME`, `C:\Users\NAME`. Names that systems
    /// and manuals give to everybody (`root`, `runner`, `Public`, `user`) stay.
    User,
    /// A telephone number, in international form, in a form usual in its country, or after a word that announces one.
    Phone,
}

/// The number of kinds.
pub const KINDS: usize = 8;

/// What becomes of a document with a find.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A placeholder takes the find's place.
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
    /// The key of the first value that makes no sense, and why.
    pub fn validate(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        if self.kinds.is_empty() {
            return Err("kinds is empty; leave the step out to look for nothing".to_owned());
        }
        if let Some(twice) = self.kinds.iter().find(|kind| !seen.insert(**kind)) {
            return Err(format!("kinds names `{}` twice", twice.name()));
        }
        if let Some(idle) = self.actions.keys().find(|kind| !seen.contains(kind)) {
            return Err(format!("actions names `{}`, which kinds does not", idle.name()));
        }
        if self.allow.iter().any(String::is_empty) {
            return Err("allow has an empty value".to_owned());
        }
        Ok(())
    }

    /// Returns what becomes of a document with a find of `kind`.
    pub fn action(&self, kind: Kind) -> Action {
        self.actions.get(&kind).copied().unwrap_or(self.action)
    }
}

impl Kind {
    /// Every kind, in the order of precedence.
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

    /// Returns what stands in a find's place.
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
