//! Keeps what the operator holds in memory off the disk and from other processes.

use std::io;

/// No core dump of this process, and no debugger of the same user: prctl(2),
/// `PR_SET_DUMPABLE`. Root can still read its memory, as it can everything.
#[cfg(target_os = "linux")]
pub(super) fn seal() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

    // Where the kernel hands dumps to a program, it asks for the limit no more.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Where it is not known how.
#[cfg(not(target_os = "linux"))]
pub(super) fn seal() -> io::Result<()> {
    Ok(())
}
