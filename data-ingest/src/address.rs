//! Addresses: which ones may be asked, however a name resolves and wherever a server sends its callers.
//!
//! A dataset is often somebody else's text. One that names the metadata service of a cloud machine, a router or another
//! service of this machine would bring what they answer into a corpus, so such addresses are refused after the name is
//! resolved, on the very address that is then connected to: a name that resolves differently the second time gains nothing.
//! Behind a proxy of the user's, the proxy resolves names, and only addresses written in numbers can be refused here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

use ureq::config::Config as AgentConfig;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use url::{Host, Url};

/// An address that may not be asked, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub String);

/// Returns an HTTP or HTTPS address, without its fragment.
pub(crate) fn parse(text: &str) -> Result<Url, Refused> {
    let mut url = Url::parse(text).map_err(|e| Refused(format!("it is no address ({e})")))?;
    url.set_fragment(None);
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(Refused(format!("`{other}://` is neither http:// nor https://"))),
    }
}

/// Returns an address as it may be printed: without a query or a password, which may open doors.
pub(crate) fn shown(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// Checks an address that is written in numbers; a name is checked when it is resolved.
pub(crate) fn check_literal(url: &Url, allow_private: bool) -> Result<(), Refused> {
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        // A proxy would resolve these itself, out of our sight.
        Some(Host::Domain(name)) if name == "localhost" || name.ends_with(".localhost") => Ipv4Addr::LOCALHOST.into(),
        _ => return Ok(()),
    };
    check_ip(ip, allow_private)
}

/// Resolves a host and checks all its addresses, for a program that connects by itself.
///
/// A host that cannot be resolved passes: the program will say so, or has a proxy that can.
pub(crate) fn check_host(host: &str, port: u16, allow_private: bool) -> Result<(), Refused> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let resolved = (bare, port).to_socket_addrs();
    resolved.into_iter().flatten().try_for_each(|address| check_ip(address.ip(), allow_private))
}

fn check_ip(ip: IpAddr, allow_private: bool) -> Result<(), Refused> {
    match kind(ip) {
        Some(kind) if !allow_private => {
            let hint = "if that is meant, set `allow_private = true` in [collect]";
            Err(Refused(format!("{ip} is {kind}; {hint}")))
        }
        _ => Ok(()),
    }
}

/// Returns what an address is, unless it is one of the public internet.
///
/// The ranges are those of the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890 and its updates).
fn kind(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => kind_v4(ip),
        IpAddr::V6(ip) => kind_v6(ip),
    }
}

fn kind_v4(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        [127, ..] => Some("a loopback address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("a private address"),
        [169, 254, ..] => Some("a link-local address, where clouds keep their metadata"),
        [100, 64..=127, ..] => Some("an address of a carrier's own network"),
        // Alibaba's metadata is inside 100.64/10, Oracle's inside 192.0.0/24.
        [0 | 240..=255, ..] | [192, 0, 0, _] => Some("a reserved address"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18..=19, ..] => Some("an address for examples"),
        [224..=239, ..] => Some("a multicast address"),
        _ => None,
    }
}

fn kind_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let segments = ip.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        kind_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("a reserved address"),
        // IPv4-mapped, IPv4-compatible, and translated by NAT64 and 6to4: the IPv4 address inside is what is reached.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            embedded(high, low)
        }
        // Every NAT64 prefix of a network's own, and Teredo, whose inner address is disguised.
        [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..] => Some("an address that leads into another network"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfc00..=0xfdff, ..] => Some("a unique-local address"),
        [0xfec0..=0xfeff, ..] => Some("a site-local address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0x2001, 0xdb8, ..] => Some("an address for examples"),
        _ => None,
    }
}

/// Resolves names as usual, and refuses what may not be connected to.
#[derive(Debug, Default)]
pub(crate) struct GuardedResolver {
    /// Whether private addresses may be asked.
    pub allow_private: bool,
    inner: DefaultResolver,
}

impl GuardedResolver {
    /// Returns a resolver.
    pub fn new(allow_private: bool) -> Self {
        Self { allow_private, inner: DefaultResolver::default() }
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
        let checked = addresses.iter().try_for_each(|address| check_ip(address.ip(), self.allow_private));
        checked.map_err(|refused| ureq::Error::Io(io::Error::other(refused)))?;
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(address: &str, expected: Option<&str>) {
        assert_eq!(kind(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn only_public_addresses_are_asked() {
        for public in ["8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "192.0.1.1", "223.255.0.1"] {
            check(public, None);
        }
        for public in ["2606:4700::1111", "2a00:1450:4001::200e", "64:ff9b::808:808", "2002:808:808::1"] {
            check(public, None);
        }
        let metadata = Some("a link-local address, where clouds keep their metadata");
        check("169.254.169.254", metadata);
        check("127.0.0.1", Some("a loopback address"));
        check("127.255.255.254", Some("a loopback address"));
        check("0.0.0.0", Some("a reserved address"));
        check("255.255.255.255", Some("a reserved address"));
        check("10.0.0.1", Some("a private address"));
        check("172.16.0.1", Some("a private address"));
        check("172.31.255.255", Some("a private address"));
        check("192.168.1.1", Some("a private address"));
        check("100.100.100.200", Some("an address of a carrier's own network"));
        check("192.0.0.192", Some("a reserved address"));
        check("198.18.0.1", Some("an address for examples"));
        check("224.0.0.1", Some("a multicast address"));
        check("::1", Some("a loopback address"));
        check("::", Some("a reserved address"));
        check("::ffff:169.254.169.254", metadata);
        check("::ffff:10.1.2.3", Some("a private address"));
        check("::127.0.0.1", Some("a loopback address"));
        check("64:ff9b::7f00:1", Some("a loopback address"));
        check("2002:a00:1::1", Some("a private address"));
        check("2001:0:4136:e378::1", Some("an address that leads into another network"));
        check("fe80::1", Some("a link-local address"));
        check("fd00:ec2::254", Some("a unique-local address"));
        check("fec0::1", Some("a site-local address"));
        check("ff02::1", Some("a multicast address"));
        check("2001:db8::1", Some("an address for examples"));
    }

    #[test]
    fn numbers_in_an_address_are_read_as_browsers_read_them() {
        // The standard for URLs reads these as 127.0.0.1, and so would whatever connects.
        for disguised in ["http://127.1/", "http://0x7f000001/", "http://2130706433/", "http://[::ffff:7f00:1]/"] {
            let url = parse(disguised).unwrap();
            assert!(check_literal(&url, false).is_err(), "{disguised}");
            assert!(check_literal(&url, true).is_ok(), "{disguised}");
        }
        assert!(check_literal(&parse("http://localhost:80/x").unwrap(), false).is_err());
        assert!(check_literal(&parse("https://example.org/x").unwrap(), false).is_ok());
        assert!(check_host("[::1]", 80, false).is_err());
        for other in ["file:///etc/passwd", "ftp://x/y", "x/y", "gopher://x"] {
            assert!(parse(other).is_err(), "{other}");
        }
        let signed = parse("https://a.example:8443/b/c.txt?signature=secret#d").unwrap();
        assert_eq!(shown(&signed), "https://a.example:8443/b/c.txt");
    }

    proptest! {
        #[test]
        fn an_address_of_ipv4_is_judged_alike_in_every_disguise(bits in any::<u32>()) {
            let ip = Ipv4Addr::from(bits);
            let [a, b, c, d] = ip.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            prop_assert_eq!(kind_v6(ip.to_ipv6_mapped()), kind_v4(ip));
            prop_assert_eq!(kind_v6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low)), kind_v4(ip));
            prop_assert_eq!(kind_v6(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1)), kind_v4(ip));
        }
    }
}
