//! Markdown as GitHub shows it, as far as is asked here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a file is called in a message.
pub fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// This file, or every file below this folder.
pub fn files(name: &str) -> Vec<PathBuf> {
    fn below(path: PathBuf, found: &mut Vec<PathBuf>) {
        if !path.is_dir() {
            found.push(path);
            return;
        }
        let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for entry in entries {
            below(entry.expect("an entry").path(), found);
        }
    }
    let mut found = Vec::new();
    below(root().join(name), &mut found);
    found.sort();
    found
}

pub fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// Every page that somebody reads.
pub fn pages() -> Vec<PathBuf> {
    let files_here = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    let folders = ["docs", "charts", "examples", "gitops", "tests"];
    files_here.into_iter().chain(folders).flat_map(files).filter(|path| is_page(path)).collect()
}

/// The text without what stands in fences.
fn outside(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        if !inside && !is_fence {
            kept.push_str(line);
        }
        kept.push('\n');
        inside ^= is_fence;
    }
    kept
}

/// The fenced blocks of a language, each with the line on which it begins.
pub fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, bool, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (open.take(), fence) {
            (None, None) => {}
            (None, Some(word)) => open = Some((number + 1, word.trim() == language, String::new())),
            (Some((begin, is_wanted, block)), None) => open = Some((begin, is_wanted, block + line + "\n")),
            (Some((begin, is_wanted, block)), Some(_)) => {
                if is_wanted {
                    found.push((begin, block));
                }
            }
        }
    }
    found
}

/// Where the links of a page lead, as they stand there.
pub fn links(text: &str) -> Vec<String> {
    let code = Regex::new("`[^`]*`").expect("a pattern");
    let link = Regex::new(r"\]\(([^)\s]+)[^)]*\)").expect("a pattern");
    let mut found = Vec::new();
    // No code goes on beyond its paragraph.
    for paragraph in outside(text).split("\n\n") {
        let prose = code.replace_all(paragraph, "");
        found.extend(link.captures_iter(&prose).map(|link| link[1].to_owned()));
    }
    found
}

/// The anchor of a heading.
pub fn slug(heading: &str) -> String {
    let heading = heading.to_lowercase();
    let kept = heading.chars().filter(|&c| c.is_alphanumeric() || "_- ".contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The anchors of all headings of a page.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let heading = Regex::new(r"^#{1,6} +(.*)$").expect("a pattern");
    let link = Regex::new(r"\[([^\]]*)\]\([^)]*\)").expect("a pattern");
    let mut anchors = BTreeSet::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in outside(text).lines() {
        let Some(found) = heading.captures(line) else { continue };
        let slug = slug(&link.replace_all(found[1].trim(), "$1"));
        let count = counts.entry(slug.clone()).or_default();
        anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    anchors
}

#[test]
fn anchors_are_made_as_github_makes_them() {
    let page = "# Is it `well`?\n\n## `spec.data[]`\n\n```sh\n# no heading\n```\n\n\
        ## A link to [b_c](d.md), and \"more\"\n\n## A\n## A\n";
    let wanted = ["is-it-well", "specdata", "a-link-to-b_c-and-more", "a", "a-1"];
    assert_eq!(anchors(page), BTreeSet::from(wanted.map(str::to_owned)));
}

#[test]
fn links_in_code_are_none() {
    let page = "See [a](b.md), `[c](d.md)` and\n[`e`](f.md#g \"h\").\n\n```text\n[i](j.md)\n```\n\n![k](l.png)\n";
    assert_eq!(links(page), ["b.md", "f.md#g", "l.png"]);
}
