//! Every link leads somewhere, and every page can be found.

use std::path::Path;

use regex::Regex;

use crate::markdown::{anchors, files, is_page, links, name, pages, read, root};

/// What is wrong with a link in a file of this folder.
fn broken(from: &Path, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let Ok(target) = from.join(path).canonicalize() else {
        return Some("there is no such file".to_owned());
    };
    if !target.starts_with(root().canonicalize().expect("a folder")) {
        return Some("it leads out of the repository".to_owned());
    }
    let anchor = anchor?;
    if !is_page(&target) {
        return Some("only a page has anchors".to_owned());
    }
    let is_there = anchors(&read(&target)).contains(anchor);
    (!is_there).then(|| format!("{} has no heading for #{anchor}", name(&target)))
}

#[test]
fn every_link_leads_somewhere() {
    let (mut count, mut wrong) = (0, Vec::new());
    for page in pages() {
        let text = read(&page);
        let folder = page.parent().expect("a folder");
        for link in links(&text).iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            // Within a page: to the page itself.
            let file = page.file_name().expect("a name").to_string_lossy();
            let whole = if link.starts_with('#') { format!("{file}{link}") } else { link.clone() };
            count += 1;
            wrong.extend(broken(folder, &whole).map(|why| format!("{}: {link}: {why}", name(&page))));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 300, "only {count} links were found");
}

#[test]
fn pages_that_messages_and_manifests_name_are_there() {
    let mention = Regex::new(r"\bdocs/[A-Za-z0-9_/-]+\.md(#[a-z0-9_-]+)?").expect("a pattern");
    let mut wrong = Vec::new();
    for path in ["src", "charts", "deploy", "examples", "gitops"].into_iter().flat_map(files) {
        // Test data may be anything.
        let text = String::from_utf8_lossy(&std::fs::read(&path).expect("a file")).into_owned();
        for page in mention.find_iter(&text).map(|found| found.as_str().to_owned()) {
            wrong.extend(broken(root(), &page).map(|why| format!("{}: {page}: {why}", name(&path))));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_index_names_every_page() {
    let named = links(&read(&root().join("docs/README.md")));
    for page in files("docs").into_iter().filter(|path| is_page(path)) {
        let name = name(&page).trim_start_matches("docs/").to_owned();
        // Reasons and alerts have an index of their own.
        let has_other = name.starts_with("reasons/") || name.starts_with("alerts/");
        let is_index = name == "README.md" || name.ends_with("/README.md");
        let links_to = |link: &String| link.split('#').next() == Some(name.as_str());
        let is_named = named.iter().any(links_to) || name == "README.md" || has_other && !is_index;
        assert!(is_named, "docs/README.md does not name {name}");
    }
}
