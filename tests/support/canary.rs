//! Values that must not be seen anywhere, in every form in which they could
//! leak.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
};

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA224, SHA256, SHA384, SHA512, digest};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use serde_json::Value;

/// So many bytes of a form are enough to know it by.
const WINDOW: usize = 8;
/// Of long forms also their beginning and end alone: a message may be cut.
const PART: usize = 16;

/// Values, and every form of theirs that is searched for.
#[derive(Default)]
pub struct Canary {
    /// By the first bytes of a form: what it is, and the form.
    forms: HashMap<[u8; WINDOW], Vec<(String, Vec<u8>)>>,
}

impl Canary {
    /// 32 random bytes, hardly ever UTF-8.
    pub fn random_bytes() -> Vec<u8> {
        let mut bytes = vec![0; 32];
        aws_lc_rs::rand::fill(&mut bytes).expect("randomness");
        bytes
    }

    /// 32 random characters, among them some that JSON, URLs and HTML escape.
    pub fn random_text() -> String {
        const CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789\"\\/+&<>%= '";
        Self::random_bytes()
            .into_iter()
            .map(|byte| char::from(CHARACTERS[usize::from(byte) % CHARACTERS.len()]))
            .collect()
    }

    /// Looks for these values.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut canary = Self::default();
        values.into_iter().for_each(|value| canary.add(value));
        canary
    }

    /// Looks for this value too.
    pub fn add(&mut self, value: &[u8]) {
        self.add_forms(forms(value));
    }

    fn add_forms(&mut self, forms: Vec<(String, Vec<u8>)>) {
        for (what, form) in forms {
            if form.len() >= PART * 2 {
                self.look_for(format!("start of {what}"), form[..PART].to_vec());
                self.look_for(format!("end of {what}"), form[form.len() - PART..].to_vec());
            }
            self.look_for(what, form);
        }
    }

    /// Looks for this value however it is written, but not for hashes of it.
    pub fn add_written(&mut self, value: &[u8]) {
        self.add_forms(written(value));
    }

    /// Looks for whole forms only: of a value made of words a part may be
    /// found anywhere.
    fn add_words(&mut self, value: &[u8]) {
        for (what, form) in forms(value) {
            self.look_for(what, form);
        }
    }

    fn look_for(&mut self, what: String, form: Vec<u8>) {
        if let Some(start) = form.first_chunk::<WINDOW>() {
            self.forms.entry(*start).or_default().push((what, form));
        }
    }

    /// Which forms are in there.
    pub fn found_in(&self, haystack: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        // A core is large: most of it is known by two bytes not to be the start of a form.
        let pair = |bytes: &[u8]| usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        let mut begins = vec![false; 1 << 16];
        for start in self.forms.keys() {
            begins[pair(start)] = true;
        }
        for (at, window) in haystack.windows(WINDOW).enumerate() {
            if !begins[pair(window)] {
                continue;
            }
            let window: &[u8; WINDOW] = window.try_into().expect("of this length");
            for (what, form) in self.forms.get(window).into_iter().flatten() {
                if haystack[at..].starts_with(form) {
                    found.insert(what.clone());
                }
            }
        }
        found
    }

    /// Fails the test where a form is in there.
    pub fn assert_absent(&self, place: &str, haystack: &[u8]) {
        let found = self.found_in(haystack);
        assert!(found.is_empty(), "{place} shows a value: {found:?}");
    }
}

/// Every form of a value that is looked for, named.
fn forms(value: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut forms = written(value);
    forms.extend(hashed(value));
    forms
}

/// A value in every encoding.
fn written(value: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut forms = vec![("the value".to_owned(), value.to_vec())];
    let mut add = |what: &str, form: String| forms.push((what.to_owned(), form.into_bytes()));
    for (name, engine) in [("base64", &STANDARD), ("URL-safe base64", &URL_SAFE)] {
        let padded = engine.encode(value);
        add(&format!("{name} without padding"), padded.trim_end_matches('=').to_owned());
        add(name, padded);
        // Inside of something longer that was encoded as a whole: what does
        // not depend on the neighbours.
        for shift in 1..3 {
            let shifted = engine.encode([&vec![0; shift], value].concat());
            let whole = shifted.len() - 4;
            add(&format!("{name} at another offset"), shifted[4..whole].to_owned());
        }
    }
    let hex = hex(value);
    add("upper-case hex", hex.to_uppercase());
    add("hex", hex);
    add("URL encoding", value.iter().fold(String::new(), |text, byte| text + &format!("%{byte:02X}")));
    add("URL encoding of what must be", percent_encoded(value));
    add("a list of numbers", format!("{value:?}").trim_matches(['[', ']']).to_owned());
    add("Rust's escapes", value.escape_ascii().to_string());
    if let Ok(text) = std::str::from_utf8(value) {
        let json = Value::from(text).to_string();
        add("JSON", json.trim_matches('"').to_owned());
        add(
            "JSON in JSON",
            Value::from(json.as_str()).to_string().trim_matches('"').trim_matches(['\\', '"']).to_owned(),
        );
        let html = text.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
        add("JSON as Go writes it", Value::from(html).to_string().trim_matches('"').replace("\\\\u00", "\\u00"));
        add("Rust's debug output", format!("{text:?}").trim_matches('"').to_owned());
        let wide: Vec<u16> = text.encode_utf16().collect();
        forms.push(("UTF-16".to_owned(), wide.iter().flat_map(|unit| unit.to_le_bytes()).collect()));
        forms.push(("UTF-16, big end first".to_owned(), wide.iter().flat_map(|unit| unit.to_be_bytes()).collect()));
    }
    forms
}

/// What gives a value away to who guesses it.
fn hashed(value: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut forms = Vec::new();
    let mut add = |what: &str, form: String| forms.push((what.to_owned(), form.into_bytes()));
    let algorithms: [(&str, &'static Algorithm); 5] = [
        ("SHA-1", &SHA1_FOR_LEGACY_USE_ONLY),
        ("SHA-224", &SHA224),
        ("SHA-256", &SHA256),
        ("SHA-384", &SHA384),
        ("SHA-512", &SHA512),
    ];
    let hashes = algorithms.map(|(name, algorithm)| (name, digest(algorithm, value).as_ref().to_vec()));
    for (name, hash) in hashes.into_iter().chain(md5(value).map(|hash| ("MD5", hash))) {
        // Shortened hashes are hashes: their start is enough.
        let start = &hash[..8];
        add(&format!("hex of its {name}"), self::hex(start));
        add(&format!("upper-case hex of its {name}"), self::hex(start).to_uppercase());
        add(&format!("base64 of its {name}"), STANDARD.encode(start)[..10].to_owned());
        add(&format!("URL-safe base64 of its {name}"), URL_SAFE.encode(start)[..10].to_owned());
    }
    forms
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn percent_encoded(value: &[u8]) -> String {
    value.iter().fold(String::new(), |text, byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text + &char::from(*byte).to_string(),
        byte => text + &format!("%{byte:02X}"),
    })
}

/// By the machine's own program: no library that the product uses has it.
fn md5(value: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    child.stdin.take()?.write_all(value).ok()?;
    let output = child.wait_with_output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (0..16).map(|at| u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()).collect()
}

/// Values that any test of this binary has put into a manager.
static WATCHED: LazyLock<Mutex<BTreeSet<Vec<u8>>>> = LazyLock::new(Mutex::default);

/// No operator of this binary may log this value. Short ones would be found
/// everywhere.
pub fn watch(value: &[u8]) {
    if value.len() >= PART {
        WATCHED.lock().unwrap_or_else(PoisonError::into_inner).insert(value.to_vec());
    }
}

/// The same for every text inside.
pub fn watch_values_of(data: &Value) {
    match data {
        Value::String(text) => watch(text.as_bytes()),
        Value::Object(members) => members.values().for_each(watch_values_of),
        Value::Array(items) => items.iter().for_each(watch_values_of),
        _ => {}
    }
}

/// What an operator's log must never show: values that were watched, and
/// credentials of any kind.
pub fn leaks_in_log(log: &[u8]) -> BTreeSet<String> {
    let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut canary = Canary::default();
    for value in &watched {
        canary.add_words(value);
    }
    let mut found = canary.found_in(log);
    // How tokens begin: a JWT's header with its first field, since `{"` alone is three
    // characters that a digest may have by chance; OpenBao's service and batch tokens.
    let jwt = ["eyJhbGci", "eyJ0eXAi", "eyJraWQi"].map(|start| ("a JWT", start));
    let others = [("a Vault token", "hvs."), ("a Vault token", "hvb."), ("a bearer token", "Bearer ")];
    for (what, start) in jwt.into_iter().chain(others) {
        if log.windows(start.len()).any(|window| window == start.as_bytes()) {
            found.insert(what.to_owned());
        }
    }
    found
}
