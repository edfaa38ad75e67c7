//! Where the stores of a namespace may send requests: their authors are tenants,
//! and the operator stands in the cluster's network, with more within reach than
//! a bot has.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use ipnet::IpNet;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use url::Host;

use crate::stores::{StoreError, error::invalid};

/// Services of the machine itself that lie outside the link-local networks: of Azure,
/// Alibaba Cloud and Oracle Cloud …
const OF_THE_MACHINE: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
/// … and over IPv6 of Google Cloud, Oracle Cloud and Scaleway. Those of AWS have a
/// network of their own, `fd00:ec2::/32`.
const OF_THE_MACHINE_6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// Whether it is no address of a manager: the machine's own services give their
/// credentials to whoever can ask.
fn is_out_of_reach(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => is_out_of_reach_4(four),
        IpAddr::V6(six) => {
            six.is_unicast_link_local()
                || six.is_multicast()
                || six.is_unspecified()
                || matches!(six.segments(), [0xfd00, 0xec2, ..])
                || OF_THE_MACHINE_6.contains(&six)
                || embedded(six).into_iter().any(is_out_of_reach_4)
        }
    }
}

fn is_out_of_reach_4(address: Ipv4Addr) -> bool {
    address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.octets()[0] == 0
        || OF_THE_MACHINE.contains(&address)
}

/// Where a network's own NAT64 prefix of 48, 56, 64 or 96 bits has an IPv4 address: octet
/// 8 is left out (RFC 6052, 2.2).
const OF_NAT64: [[usize; 4]; 4] = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], LAST];
const LAST: [usize; 4] = [12, 13, 14, 15];

/// The IPv4 addresses that it may stand for: mapped, by NAT64 (RFC 6052, and RFC 8215
/// for a network's own prefix), by 6to4 (RFC 3056), or as it was once written (RFC 4291,
/// 2.5.5.1).
fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let octets = address.octets();
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| octets[place]));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![at(LAST)],
        // How long the prefix is, is the network's to know. Zeros are the padding of a
        // longer one.
        [0x64, 0xff9b, 1, ..] => OF_NAT64.map(at).into_iter().filter(|four| four.octets()[0] != 0).collect(),
        [0x2002, ..] => vec![at([2, 3, 4, 5])],
        [0, 0, 0, 0, 0, 0, ..] if !address.is_loopback() => vec![at(LAST)],
        _ => Vec::new(),
    }
}

/// A host, everything below a domain, or a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This name.
    Host(String),
    /// Every name below this domain, which is not one of them.
    Below(String),
    /// Addresses that are written as such.
    Network(IpNet),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        let (name, below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        match Host::parse(name.trim_end_matches('.')) {
            Ok(Host::Domain(name)) if !name.contains('*') && !name.ends_with('.') => {
                Ok(if below { Self::Below(format!(".{name}")) } else { Self::Host(name) })
            }
            _ => Err(format!(
                "`{text}` is no place: write a host, *.domain, an address or a network such as 10.1.0.0/16"
            )),
        }
    }
}

impl Place {
    fn holds(&self, host: &Host<&str>) -> bool {
        let name = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
        match (self, host) {
            (Self::Host(allowed), Host::Domain(host)) => name(host) == *allowed,
            (Self::Below(domain), Host::Domain(host)) => name(host).ends_with(domain),
            (Self::Network(network), Host::Ipv4(address)) => network.contains(&IpAddr::V4(*address)),
            (Self::Network(network), Host::Ipv6(address)) => network.contains(&IpAddr::V6(*address).to_canonical()),
            _ => false,
        }
    }
}

/// Where they may send requests.
#[derive(Clone, Debug, Default)]
pub struct Reach(Option<Arc<[Place]>>);

impl Reach {
    /// These places alone; any, where none is named.
    #[must_use]
    pub fn to(places: Vec<Place>) -> Self {
        Self((!places.is_empty()).then(|| places.into()))
    }

    /// Whether a store of a namespace may name this.
    pub(in crate::stores) fn check(&self, url: &Url) -> Result<(), StoreError> {
        let Some(host) = url.host() else { return Err(invalid("an address must name a host")) };
        let address = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        if address.is_some_and(is_out_of_reach) {
            let message =
                format!("{host} is an address of the machine itself, which a store of a namespace may not ask");
            return Err(invalid(message));
        }
        match &self.0 {
            Some(places) if !places.iter().any(|place| place.holds(&host)) => Err(invalid(format!(
                "stores of a namespace may not ask {host}: name another address, or have an administrator add it to --store-addresses, or make a ClusterBotSecretStore"
            ))),
            _ => Ok(()),
        }
    }
}

/// A name that stands for addresses of the machine itself, or for none.
#[derive(Debug)]
pub(super) struct OutOfReach;

impl fmt::Display for OutOfReach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("its name stands for an address of the machine itself")
    }
}

impl std::error::Error for OutOfReach {}

/// Resolves names as the system does, but for addresses that a name must not stand
/// for: who owns a name can have it mean anything, and something else later.
#[derive(Debug)]
pub(super) struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let within: Vec<_> = found.iter().copied().filter(|found| !is_out_of_reach(found.ip())).collect();
            if within.is_empty() && !found.is_empty() {
                return Err(OutOfReach.into());
            }
            Ok(Box::new(within.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::IpNet;
    use reqwest::Url;

    use super::{OF_THE_MACHINE, OF_THE_MACHINE_6, Place, Reach, is_out_of_reach};

    fn url(host: &str) -> Url {
        Url::parse(&format!("https://{host}:8200")).expect("a URL")
    }

    #[test]
    fn p5_no_store_of_a_namespace_asks_the_machine_itself_however_its_address_is_written() {
        for host in [
            "169.254.169.254",
            "169.254.170.2",
            "0xa9fea9fe",
            "2852039166",
            "0251.0376.0251.0376",
            "[::ffff:169.254.169.254]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[fd00:ec2::23]",
            "[fd20:ce::254]",
            "[64:ff9b::a9fe:a9fe]",
            // A network's own NAT64 prefix, of each length.
            "[64:ff9b:1:a9fe:a9:fe00::]",
            "[64:ff9b:1:a9:fe:a9fe::]",
            "[64:ff9b:1:0:a9:fea9:fe00:0]",
            "[64:ff9b:1::a9fe:a9fe]",
            // 6to4.
            "[2002:a9fe:a9fe::1]",
            "[2002:a83f:8110::]",
            "[::a9fe:a9fe]",
            "168.63.129.16",
            "100.100.100.200",
            "0.0.0.0",
            "[::]",
            "224.0.0.1",
        ] {
            let error = Reach::default().check(&url(host)).expect_err(host);
            assert!(error.message.contains("address of the machine itself"), "{error}");
        }
        for host in [
            "127.0.0.1",
            "10.0.0.1",
            "[::1]",
            "vault.example",
            "1.1.1.1",
            "[2001:db8::1]",
            "[64:ff9b:1::a00:1]",
            "[64:ff9b:1:a00:0:100::]",
            "[2002:a00:1::1]",
        ] {
            assert!(Reach::default().check(&url(host)).is_ok(), "{host}");
        }
        assert!(is_out_of_reach("::ffff:169.254.0.1".parse().expect("an address")));
    }

    /// The chart's NetworkPolicy leaves out the same: two lists of one thing.
    #[test]
    fn p5_the_network_policy_of_the_chart_leaves_out_what_no_store_may_name() {
        let values: serde_json::Value =
            serde_yaml::from_str(include_str!("../../../charts/botsecret/values.yaml")).expect("YAML");
        let egress = &values["networkPolicy"]["egress"];
        let networks: Vec<IpNet> = ["exceptCidrs", "exceptCidrs6"]
            .iter()
            .flat_map(|list| egress[list].as_array().expect("a list"))
            .map(|network| network.as_str().and_then(|text| text.parse().ok()).expect("a network"))
            .collect();
        let is_left_out = |address: IpAddr| networks.iter().any(|network| network.contains(&address));
        let link_local =
            ["169.254.169.254", "169.254.170.2", "169.254.170.23", "fe80::1", "fd00:ec2::254", "fd00:ec2::23"];
        let link_local = link_local.map(|text| text.parse::<IpAddr>().expect("an address"));
        let known = OF_THE_MACHINE.map(IpAddr::V4).into_iter().chain(OF_THE_MACHINE_6.map(IpAddr::V6));
        for address in known.chain(link_local) {
            assert!(is_left_out(address), "the NetworkPolicy lets {address} through");
            assert!(is_out_of_reach(address), "{address}");
        }
        for network in &networks {
            for end in [network.network(), network.broadcast()] {
                assert!(is_out_of_reach(end), "a store may name {end}, which the NetworkPolicy leaves out");
            }
        }
    }

    #[test]
    fn p5_where_places_are_named_no_other_is_asked() {
        let places = ["vault.example.", "*.amazonaws.com", "10.1.0.0/16", "2001:db8::5", "169.254.0.0/16"];
        let reach = Reach::to(places.map(|place| place.parse().expect("a place")).into());
        for host in ["vault.example", "VAULT.example.", "sts.eu-west-1.amazonaws.com", "10.1.2.3", "[2001:db8::5]"] {
            assert!(reach.check(&url(host)).is_ok(), "{host}");
        }
        for host in [
            "vault.example.evil",
            "evil-vault.example",
            "amazonaws.com",
            "evilamazonaws.com",
            "10.2.0.1",
            "[2001:db8::6]",
            "169.254.169.254",
        ] {
            assert!(reach.check(&url(host)).is_err(), "{host}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_where_it_is_written() {
        for text in [
            "",
            ".",
            "*",
            "*.",
            "*..",
            "10.1.0.1..",
            "https://vault.example",
            "vault.example:8200",
            "10.1.0.0/33",
            "a.*.example",
            "a b",
        ] {
            let error = text.parse::<Place>().expect_err(text);
            assert!(error.contains("write a host"), "{error}");
        }
    }
}
