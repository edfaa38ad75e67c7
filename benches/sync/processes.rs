//! What programs cost, as the kernel counts it.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};

/// `/proc` counts processor time in hundredths of a second: USER_HZ, which is
/// 100 on every architecture that Rust runs on.
const TICKS_A_SECOND: f64 = 100.0;

/// Processor time so far.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// Of this program and what it started, by name, in seconds.
    by_program: BTreeMap<String, f64>,
    /// Of the whole machine.
    machine: f64,
}

/// One line of `/proc/PID/stat`.
struct Stat {
    name: String,
    parent: u32,
    seconds: f64,
}

impl Cpu {
    /// What has been used until now.
    pub fn now() -> Result<Self> {
        let all: BTreeMap<u32, Stat> = fs::read_dir("/proc")?
            .filter_map(|entry| {
                let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
                // One that has ended meanwhile has none.
                Some((pid, stat(pid).ok()?))
            })
            .collect();
        let own = std::process::id();
        let is_ours = |mut pid: u32| {
            while let Some(stat) = all.get(&pid) {
                if pid == own {
                    return true;
                }
                pid = stat.parent;
            }
            false
        };
        let mut by_program = BTreeMap::new();
        for (_, stat) in all.iter().filter(|(pid, _)| is_ours(**pid)) {
            *by_program.entry(stat.name.clone()).or_default() += stat.seconds;
        }
        Ok(Self { by_program, machine: machine()? })
    }

    /// What each program used since then, and everybody else on the machine.
    pub fn since(&self, before: &Self) -> String {
        let mut parts = Vec::new();
        let mut ours = 0.0;
        for (name, seconds) in &self.by_program {
            let used = seconds - before.by_program.get(name).copied().unwrap_or_default();
            ours += used;
            if used >= 0.05 {
                parts.push((used, format!("{name} {used:.1}")));
            }
        }
        parts.sort_by(|one, other| other.0.total_cmp(&one.0));
        let others = (self.machine - before.machine - ours).max(0.0);
        let parts: Vec<_> = parts.into_iter().map(|(_, text)| text).collect();
        format!("processor seconds: {}; everybody else on this machine {others:.1}", parts.join(", "))
    }
}

fn stat(pid: u32) -> Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold spaces and parentheses.
    let (head, tail) = text.rsplit_once(") ").context("no name")?;
    let name = head.split_once('(').context("no name")?.1.to_owned();
    let fields: Vec<&str> = tail.split(' ').collect();
    let ticks = |at: usize| fields.get(at).context("too short")?.parse::<f64>().context("no number");
    // proc_pid_stat(5): the 4th, 14th and 15th field; the name was the 2nd.
    let parent = fields.get(1).context("too short")?.parse()?;
    Ok(Stat { name, parent, seconds: (ticks(11)? + ticks(12)?) / TICKS_A_SECOND })
}

/// Everything but idling and waiting for disks.
fn machine() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let fields = text.lines().next().context("/proc/stat is empty")?.split_whitespace().skip(1);
    let fields: Vec<f64> = fields.map(str::parse).collect::<Result<_, _>>()?;
    let busy = fields.iter().take(8).enumerate().filter(|(at, _)| *at != 3 && *at != 4);
    Ok(busy.map(|(_, ticks)| ticks).sum::<f64>() / TICKS_A_SECOND)
}

/// The processor seconds of one process.
pub fn seconds(pid: u32) -> Result<f64> {
    Ok(stat(pid)?.seconds)
}

/// A field of `/proc/PID/status` that counts memory, such as `VmHWM`, in MB.
pub fn megabytes(pid: u32, field: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kibibytes: f64 =
        line.and_then(|rest| rest.split_whitespace().next()).with_context(|| format!("no {field}"))?.parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}

/// The load averages, as the kernel writes them.
pub fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}
