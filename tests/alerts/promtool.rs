//! From what operators answered to a file for `promtool test rules`.
//!
//! Prometheus reads it as if it had asked them itself: each series has its real labels
//! and values at its real distance in time. A test cannot last as long as the rules
//! wait, so beyond the last answer the file goes on by itself: gauges stay as they were,
//! and what only grows goes on growing as it did within the recording's rhythm.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::ensure;
use botsecret_testbed::peers;
use serde_json::{Value, json};

use crate::support::Result;

/// How often Prometheus asks, in seconds.
const INTERVAL: u64 = 5;
/// How often it evaluates the rules, in seconds.
const EVALUATION: u64 = 15;

/// One time that a target was asked.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// Since 1970.
    pub at: Duration,
    /// `None`: there was no answer.
    pub answer: Option<String>,
}

/// All times that one target was asked, in order.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The target's labels.
    pub labels: Vec<(&'static str, String)>,
    pub scrapes: Vec<Scrape>,
    /// What grew within so long before the last scrape goes on growing like that, over
    /// and over. Zero: nothing grows any more.
    pub rhythm: Duration,
}

/// Exactly these alerts fire then.
#[derive(Clone, Debug)]
pub struct Check {
    /// Since 1970.
    pub at: Duration,
    /// Their labels, `alertname` included.
    pub fires: Vec<BTreeMap<String, String>>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    value: f64,
    /// It only grows: a counter, a histogram, or the time of the last success.
    grows: bool,
}

type Samples = BTreeMap<String, Sample>;

/// The file: these recordings in one Prometheus, with these rules and checks.
pub fn file(rules: &Path, name: &str, recordings: &[Recording], checks: &[Check]) -> Value {
    let scrapes = recordings.iter().flat_map(|recording| &recording.scrapes);
    let start = scrapes.map(|scrape| scrape.at.as_secs()).min().expect("a scrape");
    // To the evaluation before.
    let times = checks.iter().map(|check| (check.at.as_secs() - start) / EVALUATION * EVALUATION);
    let times: Vec<u64> = times.collect();
    let slots = times.iter().max().expect("a check") / INTERVAL + 1;
    let series: Vec<Value> = recordings.iter().flat_map(|recording| series_of(recording, start, slots)).collect();
    let wanted = checks.iter().zip(times).map(|(check, time)| {
        let alerts: Vec<Value> = check.fires.iter().map(firing).collect();
        json!({ "expr": "ALERTS{alertstate=\"firing\"}", "eval_time": format!("{time}s"), "exp_samples": alerts })
    });
    json!({
        "rule_files": [rules],
        "evaluation_interval": format!("{EVALUATION}s"),
        "tests": [{
            "name": name,
            "interval": format!("{INTERVAL}s"),
            "start_timestamp": start.to_string(),
            "input_series": series,
            "promql_expr_test": wanted.collect::<Vec<_>>(),
        }],
    })
}

/// The sample that Prometheus keeps of an alert that fires.
fn firing(labels: &BTreeMap<String, String>) -> Value {
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    json!({ "labels": format!("ALERTS{{alertstate=\"firing\",{}}}", labels.join(",")), "value": 1 })
}

/// Each series of a target, with a value for each slot.
fn series_of(recording: &Recording, start: u64, slots: u64) -> Vec<Value> {
    let answers: Vec<_> = recording.scrapes.iter().map(|scrape| (scrape.at, samples(scrape))).collect();
    let Some((end, _)) = answers.last() else { return Vec::new() };
    let mut seen: Vec<Option<&Samples>> = Vec::new();
    for time in (0..slots).map(|slot| Duration::from_secs(start + slot * INTERVAL)) {
        let last = answers.iter().rev().find(|(at, _)| *at <= time);
        seen.push(last.map(|(_, samples)| samples));
        if time >= *end {
            break;
        }
    }
    let more = usize::try_from(slots).expect("few") - seen.len();
    let rhythm = usize::try_from(recording.rhythm.as_secs() / INTERVAL).expect("few");
    let names: BTreeSet<&String> = seen.iter().flatten().flat_map(|samples| samples.keys()).collect();
    let series = names.into_iter().map(|name| {
        let values: Vec<_> =
            seen.iter().map(|samples| samples.and_then(|samples| samples.get(name)).copied()).collect();
        let mut words = told(&values);
        let blanks = words.iter().take_while(|word| *word == "_").count();
        if blanks > 1 {
            drop(words.splice(..blanks, [format!("_x{blanks}")]));
        }
        words.extend(going_on(&values, rhythm, more));
        json!({ "series": labelled(name, &recording.labels), "values": words.join(" ") })
    });
    series.collect()
}

/// What a target answered, and that it did.
fn samples(scrape: &Scrape) -> Samples {
    let mut samples = Samples::new();
    let up = f64::from(u8::from(scrape.answer.is_some()));
    samples.insert("up".to_owned(), Sample { value: up, grows: false });
    let mut grows = false;
    for line in scrape.answer.iter().flat_map(|answer| answer.lines()) {
        if let Some((family, kind)) = line.strip_prefix("# TYPE ").and_then(|text| text.split_once(' ')) {
            grows = ["counter", "histogram"].contains(&kind) || family.ends_with("_timestamp_seconds");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            samples.insert(name.to_owned(), Sample { value: value.parse().expect("a number"), grows });
        }
    }
    samples
}

/// With the target's labels, as Prometheus adds them: those of the series that have the
/// same name go by another (`honor_labels: false`). No value has a comma in it.
fn labelled(series: &str, target: &[(&str, String)]) -> String {
    let (name, own) = series.split_once('{').unwrap_or((series, ""));
    let labels = target.iter().map(|(name, value)| format!("{name}=\"{value}\""));
    let own = own.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
    let own = own.map(|label| {
        let is_taken = target.iter().any(|(name, _)| label.split_once('=').is_some_and(|(own, _)| own == *name));
        if is_taken { format!("exported_{label}") } else { label.to_owned() }
    });
    format!("{name}{{{}}}", labels.chain(own).collect::<Vec<_>>().join(","))
}

/// Values in promtool's words. What goes away is marked, as Prometheus does.
fn told(values: &[Option<Sample>]) -> Vec<String> {
    let mut was_there = false;
    let words = values.iter().map(|sample| match (sample, std::mem::replace(&mut was_there, sample.is_some())) {
        (Some(sample), _) => sample.value.to_string(),
        (None, true) => "stale".to_owned(),
        (None, false) => "_".to_owned(),
    });
    words.collect()
}

/// So many more values.
fn going_on(values: &[Option<Sample>], rhythm: usize, more: usize) -> Vec<String> {
    let Some(Some(last)) = values.last() else { return Vec::new() };
    let steps = if last.grows { steps(values, rhythm) } else { Vec::new() };
    if more == 0 {
        Vec::new()
    } else if steps.iter().any(|step| *step > 0.0) {
        let mut value = last.value;
        let grown = steps.iter().cycle().take(more).map(|step| {
            value += step;
            value.to_string()
        });
        grown.collect()
    } else {
        // In these words a value is repeated, which makes one more.
        vec![format!("{}x{}", last.value, more - 1)]
    }
}

/// By how much it grew with each of the last values; a process that began anew by nothing.
fn steps(values: &[Option<Sample>], rhythm: usize) -> Vec<f64> {
    let steps = values.windows(2).rev().take(rhythm).map_while(|pair| match pair {
        [Some(before), Some(after)] => Some((after.value - before.value).max(0.0)),
        _ => None,
    });
    let mut steps: Vec<_> = steps.collect();
    steps.reverse();
    steps
}

/// Whether promtool finds that everything is as it is checked to be.
pub fn run(file: &Value) -> Result {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("alerts.test.json");
    std::fs::write(&path, file.to_string())?;
    let output = Command::new(peers::program("promtool")?).args(["test", "rules"]).arg(&path).output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(at: u64, answer: Option<&str>) -> Scrape {
        Scrape { at: Duration::from_secs(at), answer: answer.map(str::to_owned) }
    }

    fn recording(rhythm: u64, scrapes: Vec<Scrape>) -> Recording {
        let labels = vec![("namespace", "one".to_owned()), ("pod", "a".to_owned())];
        Recording { labels, scrapes, rhythm: Duration::from_secs(rhythm) }
    }

    fn check(at: u64, fires: &[&[(&str, &str)]]) -> Check {
        let labels = |labels: &&[(&str, &str)]| {
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Check { at: Duration::from_secs(at), fires: fires.iter().map(labels).collect() }
    }

    /// What the file says of each series.
    fn series(recordings: &[Recording], until: u64) -> BTreeMap<String, String> {
        let file = file(Path::new("rules.yaml"), "test", recordings, &[check(until, &[])]);
        let series = file["tests"][0]["input_series"].as_array().expect("series").clone();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        series.iter().map(|one| (text(&one["series"]), text(&one["values"]))).collect()
    }

    const COUNTER: &str = "# HELP asked What was asked.\n# TYPE asked counter\nasked_total{class=\"a\"} ";

    #[test]
    fn gauges_stay_and_counters_go_on_in_their_rhythm() {
        let answer = |count: u8, ready: u8| format!("{COUNTER}{count}\n# TYPE ready gauge\nready {ready}\n# EOF\n");
        let scrapes = [(100, 7, 1), (105, 7, 2), (110, 8, 3), (115, 10, 2)];
        let scrapes = scrapes.map(|(at, count, ready)| scrape(at, Some(&answer(count, ready))));
        let found = series(&[recording(10, scrapes.to_vec())], 145);
        let wanted = [
            ("asked_total{namespace=\"one\",pod=\"a\",class=\"a\"}", "7 7 8 10 11 13 14 16 17 19"),
            ("ready{namespace=\"one\",pod=\"a\"}", "1 2 3 2 2x5"),
            ("up{namespace=\"one\",pod=\"a\"}", "1 1 1 1 1x5"),
        ];
        assert_eq!(found, BTreeMap::from(wanted.map(|(name, values)| (name.to_owned(), values.to_owned()))));
        let at_rest = series(&[recording(0, scrapes.to_vec())], 145);
        assert_eq!(at_rest["asked_total{namespace=\"one\",pod=\"a\",class=\"a\"}"], "7 7 8 10 10x5");
    }

    #[test]
    fn the_time_of_the_last_success_goes_on_and_a_process_that_begins_anew_takes_nothing_back() {
        let answer = |time: &str, count: u8| {
            format!("# TYPE last_timestamp_seconds gauge\nlast_timestamp_seconds {time}\n{COUNTER}{count}\n")
        };
        let scrapes = [(0, "1000.5", 9), (5, "1001.5", 1), (10, "1001.5", 2)];
        let scrapes = scrapes.map(|(at, time, count)| scrape(at, Some(&answer(time, count))));
        let found = series(&[recording(60, scrapes.to_vec())], 30);
        assert_eq!(
            found["last_timestamp_seconds{namespace=\"one\",pod=\"a\"}"],
            "1000.5 1001.5 1001.5 1002.5 1002.5 1003.5 1003.5"
        );
        assert_eq!(found["asked_total{namespace=\"one\",pod=\"a\",class=\"a\"}"], "9 1 2 2 3 3 4");
    }

    #[test]
    fn a_label_that_the_target_has_too_goes_by_another_name() {
        let ready = Some("# TYPE ready gauge\nready{namespace=\"trading\",name=\"bot\"} 1\n");
        let found = series(&[recording(0, vec![scrape(0, ready)])], 15);
        let wanted = "ready{namespace=\"one\",pod=\"a\",exported_namespace=\"trading\",name=\"bot\"}";
        assert_eq!(found[wanted], "1 1x2");
    }

    #[test]
    fn a_target_that_does_not_answer_is_down_and_its_series_end_there() {
        let ready = Some("# TYPE ready gauge\nready 1\n");
        let scrapes = vec![scrape(3, ready), scrape(9, None), scrape(14, None), scrape(18, ready), scrape(21, None)];
        let found = series(&[recording(0, scrapes)], 48);
        // The first second is that of the first scrape; each slot has what was known then.
        assert_eq!(found["ready{namespace=\"one\",pod=\"a\"}"], "1 1 stale 1 stale");
        assert_eq!(found["up{namespace=\"one\",pod=\"a\"}"], "1 1 0 1 0 0x4");
    }

    #[test]
    fn a_target_that_is_first_asked_later_has_nothing_before_and_each_goes_on_from_its_own_end() {
        let ready = |value: u8| format!("# TYPE ready gauge\nready {value}\n");
        let early = recording(0, vec![scrape(0, Some(&ready(1))), scrape(5, Some(&ready(2)))]);
        let mut late = recording(0, vec![scrape(10, Some(&ready(3)))]);
        late.labels[1].1 = "b".to_owned();
        let found = series(&[early, late], 15);
        assert_eq!(found["ready{namespace=\"one\",pod=\"a\"}"], "1 2 2x1");
        assert_eq!(found["ready{namespace=\"one\",pod=\"b\"}"], "_x2 3 3x0");
    }

    #[test]
    fn checks_are_of_the_evaluation_before_and_of_all_labels() {
        let alert: &[(&str, &str)] = &[("alertname", "Down"), ("severity", "critical")];
        let recordings = [recording(0, vec![scrape(1000, None)])];
        let checks = [check(1014, &[]), check(1075, &[alert])];
        let file = file(Path::new("/some/rules.yaml"), "test", &recordings, &checks);
        assert_eq!(file["rule_files"], json!(["/some/rules.yaml"]));
        let test = &file["tests"][0];
        assert_eq!(test["start_timestamp"], "1000");
        let expression = "ALERTS{alertstate=\"firing\"}";
        let alert = "ALERTS{alertstate=\"firing\",alertname=\"Down\",severity=\"critical\"}";
        assert_eq!(
            test["promql_expr_test"],
            json!([
                { "expr": expression, "eval_time": "0s", "exp_samples": [] },
                { "expr": expression, "eval_time": "75s", "exp_samples": [{ "labels": alert, "value": 1 }] },
            ])
        );
    }
}
