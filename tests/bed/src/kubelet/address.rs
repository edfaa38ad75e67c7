//! An address of its own for each pod.
//!
//! All pods share the machine's network. The whole of 127.0.0.0/8 is loopback
//! there (RFC 1122, 3.2.1.3), on Linux without any set-up: so two of them can
//! listen on one port, as in a cluster, where each has a network of its own.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use k8s_openapi::api::core::v1::Pod;

use crate::cluster::lock;

/// Of every node, and of pods on its network.
pub(super) const NODE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Those that pods of this process have.
static TAKEN: Mutex<BTreeSet<Ipv4Addr>> = Mutex::new(BTreeSet::new());

/// An address that is one pod's until this is dropped.
pub(super) struct Lent(Ipv4Addr);

impl Lent {
    /// One that no pod of this process has. Other processes have pods as well,
    /// and share nothing with this one: there are 16 million to choose from.
    fn take() -> Self {
        let mut taken = lock(&TAKEN);
        loop {
            // A RandomState is seeded anew each time: randomness without a crate.
            let random = RandomState::new().hash_one(taken.len()).to_be_bytes();
            // Not 127.0.x.x, where the machine's own services are, and no
            // address that ends as one of a network or a broadcast does.
            let address = Ipv4Addr::new(127, random[0] % 254 + 1, random[1], random[2] % 254 + 1);
            if taken.insert(address) {
                return Self(address);
            }
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        lock(&TAKEN).remove(&self.0);
    }
}

/// The pod with an address in its status, where everything else looks for it.
/// `None`: it is on the node's network, and has the node's.
pub(super) fn lend(mut pod: Pod) -> (Option<Lent>, Pod) {
    let on_host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    let lent = (!on_host).then(Lent::take);
    pod.status.get_or_insert_default().pod_ip = lent.as_ref().map(|lent| lent.0.to_string());
    (lent, pod)
}

/// What a pod has for itself alone.
fn own(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

/// Where the pod is reached.
pub(super) fn of(pod: &Pod) -> IpAddr {
    own(pod).unwrap_or(NODE.into())
}

/// A word of the pod's command line or environment. One that says to listen on
/// every address says the pod's own instead: every address of the machine would
/// be those of all other pods, too.
pub(super) fn narrow(word: Vec<u8>, pod: &Pod) -> Vec<u8> {
    let narrowed = std::str::from_utf8(&word).ok().zip(own(pod)).and_then(|(word, own)| narrowed(word, own));
    narrowed.map_or(word, String::into_bytes)
}

/// `0.0.0.0`, `[::]:8080` or `--listen=0.0.0.0:8080`, with another address.
fn narrowed(word: &str, own: IpAddr) -> Option<String> {
    let after_option = word.find('=').filter(|_| word.starts_with('-')).map_or(0, |at| at + 1);
    let (option, value) = word.split_at(after_option);
    if let Ok(socket) = value.parse::<SocketAddr>() {
        return socket.ip().is_unspecified().then(|| format!("{option}{}", SocketAddr::new(own, socket.port())));
    }
    let address = value.parse::<IpAddr>().ok()?;
    address.is_unspecified().then(|| format!("{option}{own}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_means_every_address_means_the_pods_and_all_others_stay() {
        let own = Ipv4Addr::new(127, 1, 2, 3).into();
        for (word, expected) in [
            ("0.0.0.0", Some("127.1.2.3")),
            ("0.0.0.0:8080", Some("127.1.2.3:8080")),
            ("[::]:8080", Some("127.1.2.3:8080")),
            ("--listen=0.0.0.0:8080", Some("--listen=127.1.2.3:8080")),
            ("--bind-address=::", Some("--bind-address=127.1.2.3")),
            ("127.0.0.1:8080", None),
            ("10.0.0.0", None),
            ("echo 0.0.0.0:8080", None),
            ("A=0.0.0.0:8080", None),
            ("--listen", None),
            ("", None),
        ] {
            assert_eq!(narrowed(word, own).as_deref(), expected, "{word}");
        }
    }

    #[test]
    fn pods_have_addresses_of_their_own_but_for_those_on_the_nodes_network() {
        let (one, first) = lend(Pod::default());
        let (two, second) = lend(Pod::default());
        assert!(of(&first).is_loopback() && of(&first) != of(&second));
        let taken = |lent: &Option<Lent>| lent.as_ref().is_some_and(|lent| lock(&TAKEN).contains(&lent.0));
        assert!(taken(&one) && taken(&two));
        let given_back = one.as_ref().map(|lent| lent.0);
        drop(one);
        assert!(given_back.is_some_and(|address| !lock(&TAKEN).contains(&address)));
        let on_host = serde_json::json!({ "spec": { "hostNetwork": true, "containers": [] } });
        let (none, on_host) = lend(serde_json::from_value(on_host).unwrap());
        assert!(none.is_none());
        assert_eq!(of(&on_host), IpAddr::from(NODE));
        assert_eq!(narrow(b"0.0.0.0:80".to_vec(), &on_host), b"0.0.0.0:80");
    }
}
