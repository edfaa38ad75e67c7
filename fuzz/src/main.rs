//! libFuzzer on one of the targets of `src/fuzzing`, which FUZZ_TARGET names. One
//! binary for all of them: each would link the whole operator again.
#![no_main]

use std::{env, process, sync::OnceLock};

use botsecret::fuzzing::{self, Target, TARGETS};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

/// Before the first input; `list` prints the targets and the length of their inputs.
fn choose() {
    let name = env::var("FUZZ_TARGET").unwrap_or_default();
    if name == "list" {
        for target in TARGETS {
            println!("{} {}", target.name, target.longest);
        }
        process::exit(0);
    }
    match fuzzing::named(&name) {
        Some(target) => {
            TARGET.get_or_init(|| target);
        }
        None => {
            eprintln!("FUZZ_TARGET is \"{name}\": it must name a target, or be list");
            process::exit(2);
        }
    }
}

fuzz_target!(init: choose(), |input: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(input);
    }
});
