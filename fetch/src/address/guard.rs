//! Which addresses may be connected to, whatever a name resolves to and wherever a server redirects.
//!
//! The list of files to fetch often comes from another person. If it names the metadata service of a cloud machine, a
//! router or another service of this machine, fetching would copy their answers into the output (server-side request
//! forgery). So such addresses are refused after name resolution, and the connection is made to the very address that
//! was checked: a name that resolves differently the second time (DNS rebinding) gains nothing. Behind an HTTP proxy
//! the proxy resolves names, and only addresses written as numbers can be refused here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

use ureq::config::Config as AgentConfig;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use url::{Host, Url};

use super::Refused;

/// Which addresses may be connected to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AddressPolicy {
    /// Whether loopback, private and link-local addresses are allowed.
    pub allow_private: bool,
    /// The table of the configuration that has the key `allow_private`, for the error.
    pub table: &'static str,
}

impl AddressPolicy {
    /// Checks an address written as numbers; a name is checked when it is resolved.
    pub fn check_literal(self, url: &Url) -> Result<(), Refused> {
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            // A proxy would resolve these itself, where we cannot see the result.
            Some(Host::Domain(name)) if name == "localhost" || name.ends_with(".localhost") => {
                Ipv4Addr::LOCALHOST.into()
            }
            _ => return Ok(()),
        };
        self.check_ip(ip)
    }

    /// Resolves a host and checks all its addresses, for a client that connects by itself.
    ///
    /// A host that does not resolve passes: the client will report it, or has a proxy that can resolve it.
    pub fn check_host(self, host: &str, port: u16) -> Result<(), Refused> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let resolved = (bare, port).to_socket_addrs();
        resolved.into_iter().flatten().try_for_each(|address| self.check_ip(address.ip()))
    }

    fn check_ip(self, ip: IpAddr) -> Result<(), Refused> {
        match special_purpose(ip) {
            Some(purpose) if !self.allow_private => {
                let hint = format!("if that is intended, set `allow_private = true` in [{}]", self.table);
                Err(Refused(format!("{ip} is {purpose}; {hint}")))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the purpose of an address, or `None` if it is one of the public internet.
///
/// The ranges are those of the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890 and its updates).
fn special_purpose(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => special_purpose_v4(ip),
        IpAddr::V6(ip) => special_purpose_v6(ip),
    }
}

fn special_purpose_v4(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        [127, ..] => Some("a loopback address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("a private address"),
        [169, 254, ..] => Some("a link-local address, used by cloud metadata services"),
        [100, 64..=127, ..] => Some("a carrier-grade NAT address"),
        // Alibaba's metadata service is inside 100.64/10, Oracle's inside 192.0.0/24.
        [0 | 240..=255, ..] | [192, 0, 0, _] => Some("a reserved address"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18..=19, ..] => {
            Some("an address reserved for documentation and tests")
        }
        [224..=239, ..] => Some("a multicast address"),
        _ => None,
    }
}

fn special_purpose_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let segments = ip.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        special_purpose_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("a reserved address"),
        // IPv4-mapped, IPv4-compatible, NAT64 and 6to4: the embedded IPv4 address is what is reached.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            embedded(high, low)
        }
        // Local-use NAT64 prefixes, and Teredo, whose embedded address is obfuscated.
        [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..] => Some("an address that is translated to another network"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfc00..=0xfdff, ..] => Some("a unique-local address"),
        [0xfec0..=0xfeff, ..] => Some("a site-local address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0x2001, 0xdb8, ..] => Some("an address reserved for documentation and tests"),
        _ => None,
    }
}

/// The default resolver, with the addresses it finds checked.
#[derive(Debug)]
pub(crate) struct GuardedResolver {
    policy: AddressPolicy,
    inner: DefaultResolver,
}

impl GuardedResolver {
    /// Returns a resolver.
    pub fn new(policy: AddressPolicy) -> Self {
        Self { policy, inner: DefaultResolver::default() }
    }
}

impl Resolver for GuardedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &AgentConfig,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let addresses = self.inner.resolve(uri, config, timeout)?;
        // The proxy that the user's environment names usually is on a private network, and it is not what is fetched.
        if config.proxy().is_some_and(|proxy| proxy.uri() == uri) {
            return Ok(addresses);
        }
        let checked = addresses.iter().try_for_each(|address| self.policy.check_ip(address.ip()));
        checked.map_err(|refused| ureq::Error::Io(io::Error::other(refused)))?;
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address::{parse_url, printable};

    const PUBLIC_ONLY: AddressPolicy = AddressPolicy { allow_private: false, table: "collect" };

    fn check(address: &str, expected: Option<&str>) {
        assert_eq!(special_purpose(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn addresses_outside_the_public_internet_are_recognised() {
        for public in ["8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "192.0.1.1", "223.255.0.1"] {
            check(public, None);
        }
        for public in ["2606:4700::1111", "2a00:1450:4001::200e", "64:ff9b::808:808", "2002:808:808::1"] {
            check(public, None);
        }
        let metadata = Some("a link-local address, used by cloud metadata services");
        check("169.254.169.254", metadata);
        check("127.0.0.1", Some("a loopback address"));
        check("127.255.255.254", Some("a loopback address"));
        check("0.0.0.0", Some("a reserved address"));
        check("255.255.255.255", Some("a reserved address"));
        check("10.0.0.1", Some("a private address"));
        check("172.16.0.1", Some("a private address"));
        check("172.31.255.255", Some("a private address"));
        check("192.168.1.1", Some("a private address"));
        check("100.100.100.200", Some("a carrier-grade NAT address"));
        check("192.0.0.192", Some("a reserved address"));
        check("198.18.0.1", Some("an address reserved for documentation and tests"));
        check("224.0.0.1", Some("a multicast address"));
        check("::1", Some("a loopback address"));
        check("::", Some("a reserved address"));
        check("::ffff:169.254.169.254", metadata);
        check("::ffff:10.1.2.3", Some("a private address"));
        check("::127.0.0.1", Some("a loopback address"));
        check("64:ff9b::7f00:1", Some("a loopback address"));
        check("2002:a00:1::1", Some("a private address"));
        check("2001:0:4136:e378::1", Some("an address that is translated to another network"));
        check("fe80::1", Some("a link-local address"));
        check("fd00:ec2::254", Some("a unique-local address"));
        check("fec0::1", Some("a site-local address"));
        check("ff02::1", Some("a multicast address"));
        check("2001:db8::1", Some("an address reserved for documentation and tests"));
    }

    #[test]
    fn unusual_notations_of_an_address_are_recognised() {
        // The URL standard parses these as 127.0.0.1, and so would the client that connects.
        for disguised in ["http://127.1/", "http://0x7f000001/", "http://2130706433/", "http://[::ffff:7f00:1]/"] {
            let url = parse_url(disguised).unwrap();
            assert!(PUBLIC_ONLY.check_literal(&url).is_err(), "{disguised}");
            let allow_private = AddressPolicy { allow_private: true, ..PUBLIC_ONLY };
            assert!(allow_private.check_literal(&url).is_ok(), "{disguised}");
        }
        assert!(PUBLIC_ONLY.check_literal(&parse_url("http://localhost:80/x").unwrap()).is_err());
        assert!(PUBLIC_ONLY.check_literal(&parse_url("https://example.org/x").unwrap()).is_ok());
        assert!(PUBLIC_ONLY.check_host("[::1]", 80).is_err());
        for other in ["file:///etc/passwd", "ftp://x/y", "x/y", "gopher://x"] {
            assert!(parse_url(other).is_err(), "{other}");
        }
        let signed = parse_url("https://a.example:8443/b/c.txt?signature=secret#d").unwrap();
        assert_eq!(printable(&signed), "https://a.example:8443/b/c.txt");
    }

    proptest! {
        #[test]
        fn an_embedded_ipv4_address_is_classified_as_the_address_itself(bits in any::<u32>()) {
            let ip = Ipv4Addr::from(bits);
            let [a, b, c, d] = ip.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low);
            let six_to_four = Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1);
            for embedding in [ip.to_ipv6_mapped(), nat64, six_to_four] {
                prop_assert_eq!(special_purpose_v6(embedding), special_purpose_v4(ip));
            }
        }
    }
}
