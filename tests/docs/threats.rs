//! Every threat names tests that there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use regex::Regex;

use crate::markdown::{read, root};

/// What the last column of its tables is called.
const SHOWN_BY: &str = "shown by";

/// The rows below each head whose last column tells of tests: the line's number and that
/// cell.
fn cells(page: &str) -> Vec<(usize, &str)> {
    let mut is_inside = false;
    let mut found = Vec::new();
    for (number, line) in page.lines().enumerate() {
        if !line.starts_with('|') {
            is_inside = false;
            continue;
        }
        let row = line.trim_end().strip_suffix('|').and_then(|row| row.rsplit_once('|'));
        let Some((_, cell)) = row else { panic!("line {} is no row of a table", number + 1) };
        let cell = cell.trim();
        let is_rule = !cell.is_empty() && cell.chars().all(|c| c == '-');
        if cell == SHOWN_BY {
            is_inside = true;
        } else if is_inside && !is_rule {
            found.push((number + 1, cell));
        }
    }
    found
}

/// Every test of a file of Rust, by its name.
fn tests_in(source: &str) -> BTreeSet<String> {
    // Other attributes and comments may stand between.
    let test = Regex::new(
        r"(?m)^\s*#\[(?:tokio::)?test(?:\([^\]]*\))?\]\s*(?:#\[[^\]]*\]\s*|//[^\n]*\n\s*)*(?:async )?fn ([a-z0-9_]+)",
    )
    .expect("a pattern");
    test.captures_iter(source).map(|found| found[1].to_owned()).collect()
}

/// What is wrong with the tests that a cell names, as `FILE`: `TEST`, `TEST`; `FILE`: …
fn wrong(cell: &str, tests: &mut BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let code = Regex::new("`([^`]+)`").expect("a pattern");
    let (mut file, mut count, mut wrong) = (None, 0, Vec::new());
    for word in code.captures_iter(cell).map(|found| found[1].to_owned()) {
        if word.contains('/') {
            let is_ours = word.starts_with("src/") || word.starts_with("tests/");
            if !is_ours {
                wrong.push(format!("{word} lies in neither src nor tests"));
            }
            let found = tests.entry(word.clone()).or_insert_with(|| {
                // A file that is not there has no tests.
                tests_in(&fs::read_to_string(root().join(&word)).unwrap_or_default())
            });
            if found.is_empty() {
                wrong.push(format!("{word} has no tests"));
            }
            file = Some(word);
            continue;
        }
        count += 1;
        match &file {
            None => wrong.push(format!("{word} stands there without its file")),
            Some(file) if !tests[file].contains(&word) => wrong.push(format!("{file} has no test {word}")),
            Some(_) => {}
        }
    }
    if count == 0 {
        wrong.push("no test is named".to_owned());
    }
    wrong
}

#[test]
fn every_threat_names_tests_that_there_are() {
    let page = read(&root().join("docs/threats.md"));
    let (mut tests, mut found) = (BTreeMap::new(), Vec::new());
    let cells = cells(&page);
    for (line, cell) in &cells {
        found.extend(wrong(cell, &mut tests).into_iter().map(|why| format!("docs/threats.md:{line}: {why}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    // Each section has a table of its own, in which no row is passed over.
    let rows = page.lines().filter(|line| line.starts_with('|')).count();
    let heads = page.lines().filter(|line| line.ends_with(&format!("| {SHOWN_BY} |"))).count();
    assert_eq!(cells.len() + 2 * heads, rows, "a table without the column \"{SHOWN_BY}\"");
    assert!(cells.len() > 50, "only {} threats were found", cells.len());
}

#[test]
fn a_threat_without_a_test_that_there_is_is_found() {
    let here = "tests/docs/threats.rs";
    let own = "a_threat_without_a_test_that_there_is_is_found";
    for (cell, says) in [
        (String::new(), "no test is named"),
        (format!("`{here}`"), "no test is named"),
        (format!("`{own}`"), "without its file"),
        // A function that is no test.
        (format!("`{here}`: `tests_in`"), "has no test tests_in"),
        (format!("`{here}`: `{own}`, `p5_there_is_no_such_test`"), "has no test p5_there_is_no_such_test"),
        (format!("`tests/docs/nowhere.rs`: `{own}`"), "tests/docs/nowhere.rs has no tests"),
        (format!("`docs/threats.md`: `{own}`"), "lies in neither src nor tests"),
    ] {
        let found = wrong(&cell, &mut BTreeMap::new());
        assert!(found.iter().any(|why| why.contains(says)), "{cell}: {found:?}");
    }
    let right = format!("`{here}`: `{own}`, `every_threat_names_tests_that_there_are`");
    assert_eq!(wrong(&right, &mut BTreeMap::new()), Vec::<String>::new());
    let page = "| a | shown by |\n| --- | --- |\n| b | `c` |\n| d | |\n\n| e | f |\n| --- | --- |\n| g | h |\n";
    assert_eq!(cells(page), [(3, "`c`"), (4, "")]);
}
