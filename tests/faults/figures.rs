//! `target/faults.json`: what the campaign's parts came to, and their sums.

use serde_json::{Map, Value};

/// Figures of which the file holds the sum over the levels beside each level's own.
const SUMS: [&str; 3] = ["violations", "mutants", "mutants_caught"];
const LEVELS: [&str; 2] = ["memory", "real"];

/// Adds figures to the file, beside those of other parts.
pub fn add(figures: &Value) {
    let folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), std::path::PathBuf::from);
    let file = folder.join("faults.json");
    let known = std::fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str(&text).ok());
    let mut known: Map<String, Value> = known.unwrap_or_default();
    known.extend(figures.as_object().expect("figures by name").clone());
    for name in SUMS {
        let of_level = LEVELS.iter().filter_map(|level| known.get(&format!("{name}_{level}"))?.as_u64());
        if let Some(sum) = of_level.reduce(|one, other| one + other) {
            known.insert(name.to_owned(), sum.into());
        }
    }
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(file, format!("{:#}\n", Value::Object(known))).expect("written");
}
