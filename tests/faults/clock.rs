//! The scenario's time: one line through all lives of the operator, each of
//! which has a paused clock of its own.

use std::{cell::Cell, time::Duration};

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// The wall clock when a scenario begins.
const EPOCH: i64 = 1_800_000_000;

thread_local! {
    static BEGUN: Cell<(Option<Instant>, Duration)> = const { Cell::new((None, Duration::ZERO)) };
}

/// A scenario begins on this thread.
pub fn reset() {
    BEGUN.set((None, Duration::ZERO));
}

/// A runtime with a paused clock begins: to be called inside it.
pub fn follow() {
    BEGUN.set((Some(Instant::now()), elapsed()));
}

/// That runtime ends: to be called inside it.
pub fn leave() {
    BEGUN.set((None, elapsed()));
}

/// Time passes in which no operator lives.
pub fn pass(time: Duration) {
    BEGUN.set((None, elapsed() + time));
}

/// Since the scenario's start.
pub fn elapsed() -> Duration {
    let (begun, before) = BEGUN.get();
    before + begun.map_or(Duration::ZERO, |begun| begun.elapsed())
}

/// That moment on the runtime's own clock.
pub fn instant(at: Duration) -> Instant {
    Instant::now() + at.saturating_sub(elapsed())
}

/// The time of day.
pub fn wall() -> Timestamp {
    Timestamp::new(EPOCH, 0).expect("a time") + elapsed()
}

/// The same to the second, as Kubernetes writes it.
pub fn wall_second() -> String {
    Timestamp::from_second(wall().as_second()).expect("a time").to_string()
}
