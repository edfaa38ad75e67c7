//! Why an address could not be asked.

use std::{error::Error, io, time::Duration};

use super::reach::OutOfReach;
use crate::stores::{
    ErrorClass, StoreError,
    error::{invalid, unavailable},
};

const REFUSED: &str = "it refused the TLS handshake: it may want a client certificate";

const OUT_OF_REACH: &str =
    "its name stands for an address of the machine itself, which a store of a namespace may not ask";

/// What happened, and where to look.
macro_rules! reach {
    ($what:literal) => {
        concat!($what, ": check the address, and that it is up and reachable from the operator's namespace")
    };
}

impl StoreError {
    /// A request that took longer than it may.
    pub(crate) fn late(limit: Duration) -> Self {
        let message = format!(
            "the manager did not answer within {limit:?}: check that it is up and not overloaded, or raise limits.timeout in the store"
        );
        Self::new(ErrorClass::Timeout, message)
    }
}

/// Says which address could not be asked and why. Only in words of its own:
/// what a library says may quote the peer (a certificate's names, the debug
/// data of a GOAWAY).
pub(super) fn unreachable(origin: &str, error: &reqwest::Error) -> StoreError {
    if error.is_timeout() {
        let why = reach!("did not accept a connection in time");
        return StoreError::new(ErrorClass::Timeout, format!("{origin} {why}")).unconnected(error.is_connect());
    }
    let why = why(error);
    if why == OUT_OF_REACH {
        return invalid(format!("{origin} may not be asked: {why}"));
    }
    // A handshake that it refuses may be about the client's own certificate.
    let unconnected = error.is_connect() && why != REFUSED;
    unavailable(format!("cannot talk to {origin}: {why}")).unconnected(unconnected)
}

/// The cause, in fixed words.
pub(super) fn why(error: &(dyn Error + 'static)) -> &'static str {
    let mut known = None;
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return why_no_tls(tls);
        }
        if let Some(system) = cause.downcast_ref::<io::Error>() {
            known = why_system(system.kind()).or(known);
            // What it wraps is not among its sources.
            next = system.get_ref().map(|inner| inner as &(dyn Error + 'static));
            continue;
        }
        // These have no type that can be named.
        let text = cause.to_string();
        if text.starts_with("dns error") {
            if is_out_of_reach(cause) {
                return OUT_OF_REACH;
            }
            return "its name cannot be resolved: check the address, and the name servers of the operator's pod";
        }
        if text.starts_with("tunnel error") {
            return "the proxy makes no tunnel to it: check proxy in the store, and what that lets through";
        }
        if text.starts_with("invalid HTTP") {
            known = Some("its answer is not HTTP: check http or https in the address");
        }
        next = cause.source();
    }
    known.unwrap_or(reach!("the connection broke off"))
}

fn is_out_of_reach(error: &(dyn Error + 'static)) -> bool {
    error.is::<OutOfReach>() || error.source().is_some_and(is_out_of_reach)
}

fn why_system(kind: io::ErrorKind) -> Option<&'static str> {
    use io::ErrorKind as Kind;
    match kind {
        Kind::ConnectionRefused => Some(reach!("connection refused")),
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => Some(reach!("the connection was reset")),
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::AddrNotAvailable => {
            Some(reach!("there is no route to it"))
        }
        Kind::PermissionDenied => Some(reach!("the machine does not permit the connection")),
        Kind::TimedOut => Some(reach!("the connection timed out")),
        _ => None,
    }
}

fn why_no_tls(error: &rustls::Error) -> &'static str {
    use rustls::{CertificateError as Certificate, Error as Tls};
    match error {
        Tls::InvalidCertificate(Certificate::UnknownIssuer) => {
            "its certificate is of an unknown authority (UnknownIssuer); put the certificate authority that signed its \
             certificate into caBundle"
        }
        Tls::InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }) => {
            "its certificate is for another name than the address says: write a name that it is for"
        }
        Tls::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "its certificate has expired: renew it"
        }
        Tls::InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => {
            "its certificate is not valid yet: check the clocks"
        }
        Tls::InvalidCertificate(Certificate::Revoked) => "its certificate has been revoked: give it another",
        Tls::InvalidCertificate(_) => "its certificate is not valid: give it another",
        Tls::InvalidMessage(_) => "it may not speak TLS: check http or https in the address",
        Tls::AlertReceived(_) => REFUSED,
        Tls::PeerIncompatible(_) => "it speaks no TLS version or cipher that is allowed here",
        _ => "the TLS handshake failed",
    }
}
