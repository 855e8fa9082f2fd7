//! Services whose tokens have a prefix.

use std::ops::RangeInclusive;

/// The format of a token with a prefix.
#[derive(Debug)]
pub(crate) struct Token {
    /// Its prefix.
    pub(crate) prefix: &'static str,
    pub(super) alphabet: Alphabet,
    /// The number of characters after the prefix.
    pub(super) length: RangeInclusive<usize>,
}

/// The characters of a token.
#[derive(Debug, Clone, Copy)]
pub(super) enum Alphabet {
    /// `0-9A-Z`.
    Upper,
    /// `0-9a-fA-F`.
    Hex,
    /// `0-9A-Za-z`.
    Alphanumeric,
    /// `0-9A-Za-z_-`, as base64url.
    Word,
    /// `0-9A-Za-z_-.`.
    Dotted,
    /// Both forms of base64.
    Base64,
    /// Characters of a URL's path.
    Path,
}

const fn service(prefix: &'static str, alphabet: Alphabet, least: usize, most: usize) -> Token {
    Token { prefix, alphabet, length: least..=most }
}

/// Tokens with a prefix, from the services' own documentation; the lengths are wide ranges where it gives none.
pub(crate) const TOKENS: &[Token] = &[
    // Amazon
    service("AKIA", Alphabet::Upper, 16, 16),
    service("ASIA", Alphabet::Upper, 16, 16),
    // GitHub, GitLab, Bitbucket and Atlassian
    service("ghp_", Alphabet::Alphanumeric, 36, 251),
    service("gho_", Alphabet::Alphanumeric, 36, 251),
    service("ghu_", Alphabet::Alphanumeric, 36, 251),
    service("ghs_", Alphabet::Alphanumeric, 36, 251),
    service("ghr_", Alphabet::Alphanumeric, 36, 251),
    service("github_pat_", Alphabet::Word, 60, 251),
    service("glpat-", Alphabet::Dotted, 20, 300),
    service("gldt-", Alphabet::Word, 20, 64),
    service("glrt-", Alphabet::Word, 20, 64),
    service("glptt-", Alphabet::Hex, 40, 40),
    service("glcbt-", Alphabet::Word, 20, 64),
    service("ATATT3", Alphabet::Base64, 100, 300),
    service("ATBB", Alphabet::Alphanumeric, 32, 40),
    // Slack, Discord, Telegram, Teams
    service("xoxb-", Alphabet::Word, 24, 255),
    service("xoxp-", Alphabet::Word, 24, 255),
    service("xoxa-", Alphabet::Word, 24, 255),
    service("xoxr-", Alphabet::Word, 24, 255),
    service("xoxs-", Alphabet::Word, 24, 255),
    service("xoxe-", Alphabet::Word, 24, 255),
    service("xapp-", Alphabet::Word, 24, 255),
    service("hooks.slack.com/services/", Alphabet::Path, 40, 80),
    service("discord.com/api/webhooks/", Alphabet::Path, 70, 120),
    service("discordapp.com/api/webhooks/", Alphabet::Path, 70, 120),
    service("webhook.office.com/webhookb2/", Alphabet::Path, 80, 300),
    // Payment and shops
    service("sk_live_", Alphabet::Alphanumeric, 20, 120),
    service("sk_test_", Alphabet::Alphanumeric, 20, 120),
    service("rk_live_", Alphabet::Alphanumeric, 20, 120),
    service("rk_test_", Alphabet::Alphanumeric, 20, 120),
    service("whsec_", Alphabet::Base64, 24, 64),
    service("shpat_", Alphabet::Hex, 32, 32),
    service("shpss_", Alphabet::Hex, 32, 32),
    service("shpca_", Alphabet::Hex, 32, 32),
    service("sq0csp-", Alphabet::Word, 43, 43),
    service("sq0atp-", Alphabet::Word, 22, 22),
    // Google
    service("AIza", Alphabet::Word, 35, 35),
    service("GOCSPX-", Alphabet::Word, 28, 28),
    service("ya29.", Alphabet::Dotted, 30, 400),
    // Models
    service("sk-", Alphabet::Alphanumeric, 32, 64),
    service("sk-proj-", Alphabet::Word, 40, 200),
    service("sk-svcacct-", Alphabet::Word, 40, 200),
    service("sk-admin-", Alphabet::Word, 40, 200),
    service("sk-ant-", Alphabet::Word, 32, 200),
    service("sk-or-v1-", Alphabet::Hex, 64, 64),
    service("hf_", Alphabet::Alphanumeric, 30, 40),
    service("api_org_", Alphabet::Alphanumeric, 30, 40),
    service("gsk_", Alphabet::Alphanumeric, 52, 52),
    service("r8_", Alphabet::Alphanumeric, 37, 40),
    service("xai-", Alphabet::Alphanumeric, 70, 90),
    service("pplx-", Alphabet::Alphanumeric, 48, 56),
    // Packages and containers
    service("npm_", Alphabet::Alphanumeric, 36, 36),
    service("pypi-AgE", Alphabet::Word, 50, 300),
    service("rubygems_", Alphabet::Hex, 48, 48),
    service("dckr_pat_", Alphabet::Word, 27, 40),
    service("oy2", Alphabet::Alphanumeric, 43, 43),
    // Mail and messages
    service("SG.", Alphabet::Dotted, 60, 70),
    service("SK", Alphabet::Hex, 32, 32),
    service("key-", Alphabet::Hex, 32, 32),
    service("xkeysib-", Alphabet::Word, 80, 90),
    // Clouds and tools
    service("dop_v1_", Alphabet::Hex, 64, 64),
    service("doo_v1_", Alphabet::Hex, 64, 64),
    service("LTAI", Alphabet::Alphanumeric, 16, 24),
    service("AccountKey=", Alphabet::Base64, 86, 90),
    service("SharedAccessKey=", Alphabet::Base64, 43, 46),
    service("hvs.", Alphabet::Word, 24, 200),
    service("glsa_", Alphabet::Word, 40, 44),
    service("NRAK-", Alphabet::Upper, 27, 27),
    service("lin_api_", Alphabet::Alphanumeric, 40, 48),
    service("figd_", Alphabet::Word, 40, 50),
    service("ntn_", Alphabet::Alphanumeric, 40, 50),
    service("PMAK-", Alphabet::Word, 59, 59),
    service("dapi", Alphabet::Word, 32, 34),
    service("tskey-", Alphabet::Word, 20, 80),
    service("sbp_", Alphabet::Hex, 40, 40),
    service("pul-", Alphabet::Hex, 40, 40),
    service("EAAC", Alphabet::Alphanumeric, 80, 300),
    service("AGE-SECRET-KEY-1", Alphabet::Upper, 58, 58),
];

impl Alphabet {
    pub(super) fn has(self, byte: u8) -> bool {
        let sign = match self {
            Self::Upper => return byte.is_ascii_digit() || byte.is_ascii_uppercase(),
            Self::Hex => return byte.is_ascii_hexdigit(),
            Self::Alphanumeric => false,
            Self::Word => matches!(byte, b'_' | b'-'),
            Self::Dotted => matches!(byte, b'_' | b'-' | b'.'),
            Self::Base64 => matches!(byte, b'_' | b'-' | b'+' | b'/' | b'='),
            Self::Path => matches!(byte, b'_' | b'-' | b'/' | b'@'),
        };
        sign || byte.is_ascii_alphanumeric()
    }

    /// Returns true if words and paths may consist of the alphabet, so that a match may not be random.
    pub(super) fn has_words(self) -> bool {
        matches!(self, Self::Word | Self::Dotted | Self::Path)
    }
}
