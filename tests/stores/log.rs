//! Where tests hear everything that anybody logs.

#![allow(dead_code, reason = "each binary uses its part")]

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};

/// Everything logged so far.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Everything that this thread logs until the guard goes. The runtime of a test
    /// has no other thread.
    pub fn of_this_thread() -> (Self, DefaultGuard) {
        let log = Self::default();
        let everything = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        (log, tracing::subscriber::set_default(everything))
    }

    pub fn length(&self) -> usize {
        self.0.lock().expect("whole").len()
    }

    /// What came after so many bytes.
    pub fn since(&self, start: usize) -> Vec<u8> {
        self.0.lock().expect("whole")[start..].to_vec()
    }

    /// And forgets it.
    pub fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.0.lock().expect("whole"))).into_owned()
    }
}
