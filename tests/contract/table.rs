//! The result, for people and for programs.

use std::{collections::BTreeMap, fmt, path::Path};

use anyhow::Result;

use crate::cases::CASES;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail(String),
    NotApplicable(&'static str),
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => formatter.write_str("pass"),
            Self::Fail(why) => write!(formatter, "fail: {why}"),
            Self::NotApplicable(why) => write!(formatter, "n/a: {why}"),
        }
    }
}

/// The verdicts by store and case.
pub struct Table(Vec<(&'static str, BTreeMap<&'static str, Verdict>)>);

impl Table {
    pub fn of(rows: Vec<(&'static str, Vec<(&'static str, Verdict)>)>) -> Self {
        Self(rows.into_iter().map(|(name, verdicts)| (name, verdicts.into_iter().collect())).collect())
    }

    /// Whether every store has these cases, and none fails. What is not
    /// applicable says why.
    pub fn is_whole(&self, cases: &[&str]) -> bool {
        self.0.iter().all(|(_, verdicts)| {
            cases.iter().all(|case| match verdicts.get(case) {
                Some(Verdict::Pass) => true,
                Some(Verdict::NotApplicable(why)) => !why.is_empty(),
                Some(Verdict::Fail(_)) | None => false,
            })
        })
    }

    /// Into `target/`.
    pub fn write(&self) -> Result<()> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
        std::fs::write(folder.join("contract-table.txt"), self.to_string())?;
        let json: BTreeMap<&str, BTreeMap<&str, String>> = self
            .0
            .iter()
            .map(|(name, verdicts)| {
                (*name, verdicts.iter().map(|(case, verdict)| (*case, verdict.to_string())).collect())
            })
            .collect();
        std::fs::write(folder.join("contract.json"), serde_json::to_string_pretty(&json)?)?;
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = CASES.iter().map(|case| case.name.len()).max().unwrap_or(0);
        write!(formatter, "{:widest$}", "")?;
        for (name, _) in &self.0 {
            write!(formatter, "  {name}")?;
        }
        writeln!(formatter)?;
        for case in CASES {
            if !self.0.iter().any(|(_, verdicts)| verdicts.contains_key(case.name)) {
                continue;
            }
            write!(formatter, "{:widest$}", case.name)?;
            for (name, verdicts) in &self.0 {
                let shown = match verdicts.get(case.name) {
                    Some(Verdict::Pass) => "pass",
                    Some(Verdict::Fail(_)) => "FAIL",
                    Some(Verdict::NotApplicable(_)) => "n/a",
                    None => "MISSING",
                };
                write!(formatter, "  {shown:width$}", width = name.len())?;
            }
            writeln!(formatter)?;
        }
        for (name, verdicts) in &self.0 {
            for case in CASES {
                if let Some(verdict @ (Verdict::Fail(_) | Verdict::NotApplicable(_))) = verdicts.get(case.name) {
                    writeln!(formatter, "{name}: {}: {verdict}", case.name)?;
                }
            }
        }
        Ok(())
    }
}
