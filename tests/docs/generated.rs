//! `docs/reference`, made of the types and of the command line: `make reference` makes
//! it anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs, iter,
    path::Path,
    process::Command,
};

use botsecret::cli::Cli;
use clap::CommandFactory as _;
use serde_json::Value;

use crate::{
    definitions::{definitions, fields, schema, text},
    markdown::{root, slug},
};

const OF_TYPES: &str = "<!-- Made by `make reference` of the types in src/api: edit those. -->\n\n";
const OF_COMMANDS: &str = "<!-- Made by `make reference` of the commands in src/cli: edit those. -->\n\n";

const LEGEND: &str = "\
A field that is not marked as required may be left out. Brackets hold what the API server
takes; a rule is given as the message with which it refuses what breaks the rule.
";

const OF_A_STATUS: &str = "\
What the conditions and their reasons mean: [reasons](../reasons/README.md). The phases of
a rotation: [rollouts](../rollouts.md#where-a-rotation-stands), of a rotation at once:
[emergency](../emergency.md#where-it-stands). Stores have no status.
";

/// Where each object is described, by what it is: the least deep place of those where it
/// stands, and the first of these.
type Places = BTreeMap<String, String>;

/// What an object is, whatever is said of it.
fn identity(object: &Value) -> String {
    let mut object = object.clone();
    if let Some(object) = object.as_object_mut() {
        object.remove("description");
    }
    object.to_string()
}

/// The object that a field is, or that its entries are, with its path.
fn object_of<'a>(path: &str, schema: &'a Value) -> Option<(String, &'a Value)> {
    if schema["properties"].is_object() {
        return Some((path.to_owned(), schema));
    }
    let entries = [("[]", &schema["items"]), ("{}", &schema["additionalProperties"])];
    let (suffix, entry) = entries.into_iter().find(|(_, entry)| entry.is_object())?;
    object_of(&format!("{path}{suffix}"), entry)
}

fn places(path: &str, schema: &Value) -> Places {
    let mut places = Places::new();
    let mut level = vec![(path.to_owned(), schema)];
    while !level.is_empty() {
        let mut next = Vec::new();
        for (path, object) in level {
            if places.contains_key(&identity(object)) {
                continue;
            }
            next.extend(fields(object).filter_map(|(name, field)| object_of(&format!("{path}.{name}"), field)));
            places.insert(identity(object), path);
        }
        level = next;
    }
    places
}

/// Text in which nothing but code is markup.
fn prose(text: &str) -> String {
    let mut shown = String::new();
    for (number, part) in text.split('`').enumerate() {
        if number > 0 {
            shown.push('`');
        }
        for c in part.chars() {
            if number.is_multiple_of(2) && "\\*_<[".contains(c) {
                shown.push('\\');
            }
            shown.push(c);
        }
    }
    shown
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The messages of the rules of one schema.
fn rules(schema: &Value) -> Vec<&str> {
    schema["x-kubernetes-validations"].as_array().into_iter().flatten().map(|rule| text(&rule["message"])).collect()
}

/// What a value of this schema is.
fn type_of(schema: &Value, places: &Places, plural: &str) -> String {
    for (words, entry) in [("list of", &schema["items"]), ("map of", &schema["additionalProperties"])] {
        if entry.is_object() {
            return format!("{words} {}", type_of(entry, places, "s"));
        }
    }
    if schema["properties"].is_object() {
        return format!("[object{plural}](#{})", slug(&places[&identity(schema)]));
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return "string or integer".to_owned();
    }
    let is_time = schema["format"] == "date-time";
    format!("{}{plural}{}", text(&schema["type"]), if is_time { " (date-time)" } else { "" })
}

/// What the schema allows.
fn limits(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let code = |all: &Value| -> Vec<String> {
        all.as_array().into_iter().flatten().map(|one| format!("`{}`", text(one))).collect()
    };
    if !schema["default"].is_null() {
        found.push(format!("default `{}`", schema["default"]));
    }
    if schema["enum"].is_array() {
        found.push(format!("one of {}", code(&schema["enum"]).join(", ")));
    }
    for (least, most, unit) in [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " entries"),
        ("minProperties", "maxProperties", " entries"),
    ] {
        match (&schema[least], &schema[most]) {
            (Value::Null, Value::Null) => {}
            (Value::Null, most) => found.push(format!("at most {most}{unit}")),
            (least, Value::Null) => found.push(format!("at least {least}{unit}")),
            (least, most) => found.push(format!("{least} to {most}{unit}")),
        }
    }
    if schema["pattern"].is_string() {
        found.push(format!("matches `{}`", text(&schema["pattern"])));
    }
    match text(&schema["x-kubernetes-list-type"]) {
        "set" => found.push("no entry twice".to_owned()),
        "map" => {
            let keys = code(&schema["x-kubernetes-list-map-keys"]).join(" and ");
            found.push(format!("no two entries with the same {keys}"));
        }
        _ => {}
    }
    found
}

/// All that is said of a field beside its type.
fn about(field: &Value) -> String {
    let mut all = limits(field);
    for entry in [&field["items"], &field["additionalProperties"]] {
        // Objects have a table of their own.
        if entry["properties"].is_null() {
            all.extend(limits(entry).into_iter().map(|limit| format!("each {limit}")));
        }
    }
    let mut about = prose(text(&field["description"]));
    if !all.is_empty() {
        write!(about, " ({})", all.join("; ")).expect("text");
    }
    if field["properties"].is_null() {
        for rule in rules(field) {
            write!(about, " Rule: {}.", prose(rule)).expect("text");
        }
    }
    cell(&about)
}

/// The fields of an object, but for those that another one has too.
fn table(page: &mut String, object: &Value, other: &Value, places: &Places) {
    page.push_str("| field | type | what it is |\n| --- | --- | --- |\n");
    for (name, field) in fields(object).filter(|(name, _)| other["properties"][name].is_null()) {
        let is_required = object["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        let mark = if is_required { " (required)" } else { "" };
        writeln!(page, "| `{name}`{mark} | {} | {} |", type_of(field, places, ""), about(field)).expect("text");
    }
}

fn list(page: &mut String, rules: &[&str]) {
    page.push('\n');
    for rule in rules {
        writeln!(page, "- {}", prose(rule)).expect("text");
    }
}

/// An object and those below it, where this is the place for them.
fn section(page: &mut String, path: &str, object: &Value, places: &Places) {
    if places[&identity(object)] != path {
        return;
    }
    write!(page, "\n## `{path}`\n\n").expect("text");
    if path.ends_with("[]") {
        write!(page, "{}\n\n", prose(text(&object["description"]))).expect("text");
    }
    table(page, object, &Value::Null, places);
    let rules = rules(object);
    if !rules.is_empty() {
        page.push_str("\nRules:\n");
        list(page, &rules);
    }
    for (name, field) in fields(object) {
        if let Some((path, below)) = object_of(&format!("{path}.{name}"), field) {
            section(page, &path, below, places);
        }
    }
}

fn kind(page: &mut String, definition: &Value) {
    let names = &definition["spec"]["names"];
    let scope = if definition["spec"]["scope"] == "Cluster" { "cluster-wide" } else { "namespaced" };
    let (group, version) = (text(&definition["spec"]["group"]), text(&definition["spec"]["versions"][0]["name"]));
    let about = prose(text(&schema(definition)["description"]));
    write!(
        page,
        "{about}\n\n`apiVersion: {group}/{version}`, `kind: {}`, {scope}. kubectl knows it as `{}` and `{}`.\n",
        text(&names["kind"]),
        text(&names["plural"]),
        text(&names["shortNames"][0])
    )
    .expect("text");
}

fn bot_secret(definition: &Value) -> String {
    let mut page = format!("{OF_TYPES}# BotSecret\n\n");
    kind(&mut page, definition);
    write!(page, "\n{LEGEND}\nWhat the operator reports of it: [status](status.md).\n").expect("text");
    let spec = &schema(definition)["properties"]["spec"];
    section(&mut page, "spec", spec, &places("spec", spec));
    page
}

fn status(definition: &Value) -> String {
    let status = &schema(definition)["properties"]["status"];
    let about = prose(text(&status["description"]));
    let mut page = format!("{OF_TYPES}# Status of a BotSecret\n\n{about}\n\n{OF_A_STATUS}");
    section(&mut page, "status", status, &places("status", status));
    page
}

fn stores(store: &Value, cluster: &Value) -> String {
    let mut page = format!("{OF_TYPES}# BotSecretStore and ClusterBotSecretStore\n\n");
    kind(&mut page, store);
    write!(page, "\n{LEGEND}\n## ClusterBotSecretStore\n\n").expect("text");
    kind(&mut page, cluster);
    let (spec, wider) = (&schema(store)["properties"]["spec"], &schema(cluster)["properties"]["spec"]);
    for (name, field) in fields(spec) {
        assert_eq!(field, &wider["properties"][name], "{name} is not the same in both kinds");
    }
    page.push_str("\nIts `spec` is the one below, and beside it:\n\n");
    table(&mut page, wider, spec, &places("spec", wider));
    let (narrow, wide) = (rules(spec), rules(wider));
    assert!(wide.iter().all(|rule| narrow.contains(rule)), "a rule for ClusterBotSecretStores alone");
    page.push_str("\nThese rules of `spec` do not hold for it:\n");
    list(&mut page, &narrow.into_iter().filter(|rule| !wide.contains(rule)).collect::<Vec<_>>());
    section(&mut page, "spec", spec, &places("spec", spec));
    page
}

/// What `--help` of a command says, of the whole when there is none.
fn help(command: Option<&str>) -> String {
    let mut botsecret = Command::new(env!("CARGO_BIN_EXE_botsecret"));
    // Nothing of this machine: no values of variables, no width of a terminal.
    let output = botsecret.args(command).arg("--help").env_clear().output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    let said = String::from_utf8(output.stdout).expect("text");
    said.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn command_line() -> String {
    let mut page = format!("{OF_COMMANDS}# Command line\n");
    let cli = Cli::command();
    let commands = cli.get_subcommands().map(clap::Command::get_name);
    for command in iter::once(None).chain(commands.map(Some)) {
        if let Some(command) = command {
            write!(page, "\n## botsecret {command}\n").expect("text");
        }
        write!(page, "\n```text\n{}\n```\n", help(command)).expect("text");
    }
    page
}

/// Compares, or writes where it is asked to.
fn current(path: &Path, wanted: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, wanted).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(found == wanted, "{} is stale: run `make reference`", path.display());
}

#[test]
fn the_reference_is_made_of_the_types_and_of_the_command_line() {
    let definitions = definitions();
    let pages = BTreeMap::from([
        ("botsecret.md", bot_secret(&definitions["BotSecret"])),
        ("botsecretstore.md", stores(&definitions["BotSecretStore"], &definitions["ClusterBotSecretStore"])),
        ("cli.md", command_line()),
        ("status.md", status(&definitions["BotSecret"])),
    ]);
    let folder = root().join("docs/reference");
    for (name, page) in &pages {
        current(&folder.join(name), page);
    }
    let entries = fs::read_dir(&folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let (found, made): (BTreeSet<String>, BTreeSet<String>) =
        (names.collect(), pages.keys().map(|name| (*name).to_owned()).collect());
    assert_eq!(found, made);
}

#[test]
fn text_of_the_types_is_shown_as_it_is() {
    let text = "<account>:role/bots-* and `a_<b>|*` | _C";
    assert_eq!(cell(&prose(text)), "\\<account>:role/bots-\\* and `a_<b>\\|*` \\| \\_C");
}
