//! Lines that say what happens, with the seconds since the start.

use std::{sync::OnceLock, time::Instant};

/// One line, now.
pub fn say(line: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    println!("[{:6.1} s] {line}", start.elapsed().as_secs_f64());
}
