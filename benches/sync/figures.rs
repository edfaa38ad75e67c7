//! The figures: for people, and as JSON for whoever compares runs.

use std::{fs, path::Path};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Size, progress::say, secrets};

/// Everything that a run measures.
#[derive(Debug)]
pub struct Figures {
    pub floor_seconds: f64,
    pub all_ready_seconds: f64,
    pub api_requests_per_object: f64,
    pub api_writes_per_object: f64,
    /// Every kind of request while the objects were new, and how often.
    pub api_requests: String,
    pub store_reads_per_object: f64,
    pub logins: usize,
    pub cpu_seconds: f64,
    pub peak_rss_mb: f64,
    pub idle_api_requests_per_minute: f64,
    pub idle_store_reads_per_minute: f64,
    pub idle_cpu_seconds_per_minute: f64,
    pub restart_api_writes: usize,
    pub restart_seconds: f64,
    pub rss_mb_beside_deployments: f64,
    pub peak_rss_mb_beside_deployments: f64,
    /// Over the BotSecrets of the last part, with nothing beside them.
    pub alone: Memory,
    /// The same beside large Secrets.
    pub beside_secrets: Memory,
}

/// What the operator has resident, in MB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// With nothing to do.
    pub settled: f64,
    pub peak: f64,
}

impl Memory {
    /// The greater of each.
    pub fn or_more(self, other: Self) -> Self {
        Self { settled: self.settled.max(other.settled), peak: self.peak.max(other.peak) }
    }

    /// How many times as much, of each.
    fn over(self, base: Self) -> Self {
        Self { settled: self.settled / base.settled, peak: self.peak / base.peak }
    }
}

/// One line of the table: what, how much, and what is aimed at.
type Line = (String, String, &'static str);

impl Default for Figures {
    fn default() -> Self {
        Self {
            // Of these the least of several runs counts.
            floor_seconds: f64::INFINITY,
            all_ready_seconds: f64::INFINITY,
            api_requests_per_object: 0.0,
            api_writes_per_object: 0.0,
            api_requests: String::new(),
            store_reads_per_object: 0.0,
            logins: 0,
            cpu_seconds: 0.0,
            peak_rss_mb: 0.0,
            idle_api_requests_per_minute: 0.0,
            idle_store_reads_per_minute: 0.0,
            idle_cpu_seconds_per_minute: 0.0,
            restart_api_writes: 0,
            restart_seconds: 0.0,
            rss_mb_beside_deployments: 0.0,
            peak_rss_mb_beside_deployments: 0.0,
            alone: Memory::default(),
            beside_secrets: Memory::default(),
        }
    }
}

impl Figures {
    fn ratio(&self) -> f64 {
        self.all_ready_seconds / self.floor_seconds
    }

    /// Prints them and writes them to `target/bench/sync.json`.
    pub fn publish(&self, size: Size) -> Result<()> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
        fs::create_dir_all(&folder)?;
        let file = folder.join("sync.json");
        fs::write(&file, format!("{:#}\n", self.json()))?;
        let lines = self.lines(size);
        let width = lines.iter().map(|(what, _, _)| what.chars().count()).max().unwrap_or_default();
        println!();
        for (what, value, aim) in lines {
            let aim = if aim.is_empty() { String::new() } else { format!("   (aim: {aim})") };
            println!("{what:<width$}  {value:>10}{aim}");
        }
        println!("\nrequests while the objects were new: {}", self.api_requests);
        say(&format!("written to {}", file.display()));
        Ok(())
    }

    fn lines(&self, size: Size) -> Vec<Line> {
        let objects = size.objects;
        let few = secrets::OBJECTS.min(objects);
        let times = self.beside_secrets.over(self.alone);
        let line = |what: &str, value: String, aim| (what.to_owned(), value, aim);
        vec![
            (
                format!("floor: {objects} BotSecrets, Secrets and statuses by a bare client, s"),
                format!("{:.2}", self.floor_seconds),
                "",
            ),
            (format!("{objects} new BotSecrets until all are Ready, s"), format!("{:.2}", self.all_ready_seconds), ""),
            line("ratio", format!("{:.2}", self.ratio()), "at most 1.6"),
            line(
                "API requests an object, but watches and TokenRequests",
                format!("{:.3}", self.api_requests_per_object),
                "2",
            ),
            line("  of them writes", format!("{:.3}", self.api_writes_per_object), "2"),
            line("OpenBao reads an object", format!("{:.3}", self.store_reads_per_object), "1"),
            line("OpenBao logins in all", self.logins.to_string(), "1"),
            line("the operator's processor time, s", format!("{:.2}", self.cpu_seconds), ""),
            line("the operator's peak memory, MB", format!("{:.1}", self.peak_rss_mb), "under 60"),
            line(
                "idle at 30s, a minute: API requests, but watches and TokenRequests",
                format!("{:.1}", self.idle_api_requests_per_minute),
                "0",
            ),
            line("  OpenBao reads", format!("{:.1}", self.idle_store_reads_per_minute), "two an object"),
            line("  processor time, s", format!("{:.2}", self.idle_cpu_seconds_per_minute), ""),
            line("restart: API writes", self.restart_api_writes.to_string(), "0"),
            line("  until every object is known good, s", format!("{:.2}", self.restart_seconds), ""),
            (
                format!("memory beside {} unrelated Deployments, MB", size.deployments),
                format!("{:.1}", self.rss_mb_beside_deployments),
                "under 100",
            ),
            line("  its peak, MB", format!("{:.1}", self.peak_rss_mb_beside_deployments), ""),
            (format!("memory over {few} BotSecrets, MB"), format!("{:.1}", self.alone.settled), ""),
            line("  its peak, MB", format!("{:.1}", self.alone.peak), ""),
            (
                format!("  beside {} unrelated Secrets of 1 MB, MB", size.secrets),
                format!("{:.1}", self.beside_secrets.settled),
                "",
            ),
            line("  its peak there, MB", format!("{:.1}", self.beside_secrets.peak), ""),
            line("  ratio", format!("{:.2}", times.settled), "1"),
            line("  ratio of the peaks", format!("{:.2}", times.peak), "1"),
        ]
    }

    fn json(&self) -> Value {
        let times = self.beside_secrets.over(self.alone);
        json!({
            "floor_seconds": rounded(self.floor_seconds),
            "all_ready_seconds": rounded(self.all_ready_seconds),
            "ratio": rounded(self.ratio()),
            "api_requests_per_object": rounded(self.api_requests_per_object),
            "store_reads_per_object": rounded(self.store_reads_per_object),
            "logins": self.logins,
            "cpu_seconds": rounded(self.cpu_seconds),
            "peak_rss_mb": rounded(self.peak_rss_mb),
            "idle_api_requests_per_minute": rounded(self.idle_api_requests_per_minute),
            "idle_store_reads_per_minute": rounded(self.idle_store_reads_per_minute),
            "idle_cpu_seconds_per_minute": rounded(self.idle_cpu_seconds_per_minute),
            "restart_api_writes": self.restart_api_writes,
            "restart_seconds": rounded(self.restart_seconds),
            // The names that comparisons know, whatever BENCH_* says.
            "rss_mb_beside_20000_deployments": rounded(self.rss_mb_beside_deployments),
            "rss_mb_of_200": rounded(self.alone.settled),
            "peak_rss_mb_of_200": rounded(self.alone.peak),
            "rss_mb_of_200_beside_300_secrets": rounded(self.beside_secrets.settled),
            "peak_rss_mb_of_200_beside_300_secrets": rounded(self.beside_secrets.peak),
            "rss_ratio_beside_300_secrets": rounded(times.settled),
            "peak_rss_ratio_beside_300_secrets": rounded(times.peak),
        })
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
