//! Free loopback ports.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Result, bail};

/// Below the range from which Linux takes the ports of outgoing connections
/// (32768 and up), so that none of those can take a port that is free for a
/// moment, as while an API server is down.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port that nothing listens on and that this process has not given out yet.
pub fn free() -> Result<u16> {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for attempt in 0..2_000_u32 {
        // A RandomState is seeded anew each time: randomness without a crate.
        let random = RandomState::new().hash_one(attempt);
        let span = u64::from(RANGE.end - RANGE.start);
        let Ok(offset) = u16::try_from(random % span) else {
            continue;
        };
        let port = RANGE.start + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && given.insert(port) {
            return Ok(port);
        }
    }
    bail!("no free loopback port in {RANGE:?}")
}

/// Random enough for names and tokens of a test bed.
pub(crate) fn random_name(length: usize) -> String {
    let mut name = String::new();
    while name.len() < length {
        let part = RandomState::new().hash_one(name.len());
        // Writing to a String cannot fail.
        let _ = write!(name, "{part:016x}");
    }
    name.truncate(length);
    name
}
