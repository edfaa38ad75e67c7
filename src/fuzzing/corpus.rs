//! Every target on its corpus, and on whatever was found with it, as ordinary tests.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{TARGETS, Target, named};

/// More than the fuzzer allows: this build is slower.
const LONGEST: Duration = Duration::from_secs(30);

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

/// What lies in a folder, which need not be there.
fn within(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.sort();
    found
}

fn try_one(target: &Target, path: &Path) {
    // Shown where it fails.
    println!("{}: {}", target.name, path.display());
    let input = fs::read(path).expect("an input");
    let began = Instant::now();
    (target.run)(&input);
    assert!(began.elapsed() < LONGEST, "took {:?}", began.elapsed());
}

#[test]
fn p4_p5_every_decoder_holds_on_its_corpus_and_on_all_that_was_found() {
    for target in TARGETS {
        let seeds = within(&folder("corpus").join(target.name));
        assert!(!seeds.is_empty(), "{} has no corpus", target.name);
        let found = within(&folder("findings").join(target.name));
        for path in seeds.iter().chain(&found) {
            try_one(target, path);
        }
        // What every input may be cut down to.
        let bare: [&[u8]; 6] = [b"", b"\n", b"\0", b"200\n", "é\n{}".as_bytes(), &[0xff; 64]];
        for input in bare {
            (target.run)(input);
        }
    }
}

#[test]
fn every_corpus_belongs_to_a_target() {
    let known: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(known.len(), TARGETS.len(), "two have one name");
    let all = [within(&folder("corpus")), within(&folder("findings"))].concat();
    for path in all {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(known.contains(name), "no target is named {name}");
    }
}

#[test]
#[should_panic(expected = "the planted defect")]
fn the_defect_that_the_fuzzer_is_tried_with_is_one() {
    let planted = named("planted").expect("a target");
    (planted.run)(b"bug?");
    (planted.run)(b"bug!");
}

/// The versions of a lock file, each with its package's name.
fn locked(path: &Path) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(path).expect("a lock file");
    let field = |line: &str, name: &str| {
        let value = line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"')?;
        Some(value.to_owned())
    };
    let lines: Vec<&str> = text.lines().collect();
    lines.windows(2).filter_map(|pair| Some((field(pair[0], "name")?, field(pair[1], "version")?))).collect()
}

#[test]
fn what_is_fuzzed_is_what_is_shipped() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (shipped, fuzzed) = (locked(&root.join("Cargo.lock")), locked(&folder("Cargo.lock")));
    let own = ["arbitrary", "botsecret-fuzz", "libfuzzer-sys"];
    let others: Vec<_> = fuzzed.difference(&shipped).filter(|(name, _)| !own.contains(&name.as_str())).collect();
    assert!(fuzzed.len() > 100, "{} packages are locked", fuzzed.len());
    assert!(others.is_empty(), "`fuzz/run lock` takes over the versions of Cargo.lock: {others:?}");
}

/// `FUZZ_TARGET=… FUZZ_INPUT=… cargo test --lib one_input -- --ignored --nocapture`
#[test]
#[ignore = "takes an input from FUZZ_INPUT"]
fn one_input() {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let input = std::env::var("FUZZ_INPUT").expect("FUZZ_INPUT names a file");
    let target = named(&name).expect("a target of that name");
    try_one(&target, Path::new(&input));
}
