//! PKCS#12 files, also as other programs make and read them.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{bytes, pair};

/// What a program that this machine has says; `None` where it has none.
fn run(folder: &std::path::Path, program: &str, arguments: &[&str]) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|place| place.join(program).is_file()) {
        return None;
    }
    let output = std::process::Command::new(program).current_dir(folder).args(arguments).output().unwrap();
    let shown = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {shown}");
    Some(shown)
}

const MAKE_P12: &str = "{{ pkcs12(key=KEY, certificates=CRT, password=PASS, name='price bot') }}";
const KINDS: [(&rcgen::SignatureAlgorithm, &str); 2] =
    [(&rcgen::PKCS_RSA_SHA256, "changeit"), (&rcgen::PKCS_ECDSA_P256_SHA256, "p@ß wörd")];

#[test]
fn a_pkcs12_file_that_is_made_here_gives_back_what_went_in() {
    let mut tested = 0;
    for (kind, password) in KINDS {
        let (key, certificate) = pair(kind);
        let chain = certificate.repeat(2);
        let data: &[(&str, &[u8])] =
            &[("KEY", key.as_bytes()), ("CRT", chain.as_bytes()), ("PASS", password.as_bytes())];
        let made = bytes(MAKE_P12, data).unwrap();
        assert_eq!(made, bytes(MAKE_P12, data).unwrap(), "p3: a refresh is no rotation");
        let wrong = bytes("{{ P12 | pkcs12_key('wrong') }}", &[("P12", &made)]).unwrap_err();
        assert!(wrong.message.contains("password does not open"), "{wrong}");
        let data: &[(&str, &[u8])] = &[("P12", &made), ("PASS", password.as_bytes())];
        assert_eq!(String::from_utf8(bytes("{{ P12 | pkcs12_key(PASS) }}", data).unwrap()).unwrap(), key);
        let back = bytes("{{ P12 | pkcs12_certificates(PASS) | join }}", data).unwrap();
        assert_eq!(String::from_utf8(back).unwrap(), chain);
        tested += 1;
    }
    assert_eq!(tested, 2, "no machine goes without this");
}

#[test]
fn p6_the_length_of_a_pkcs12_password_is_bounded_and_paid_for() {
    let (key, certificate) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let with = |password: &str| {
        bytes(MAKE_P12, &[("KEY", key.as_bytes()), ("CRT", certificate.as_bytes()), ("PASS", password.as_bytes())])
    };
    let longest = "p".repeat(1024);
    let made = with(&longest).unwrap();
    let endless = "p".repeat(900_000);
    let read = |template: &str, password: &str| bytes(template, &[("P12", &made), ("PASS", password.as_bytes())]);
    assert!(read("{{ P12 | pkcs12_key(PASS) }}", &longest).is_ok());
    let began = Instant::now();
    for template in ["{{ P12 | pkcs12_key(PASS) }}", "{{ P12 | pkcs12_certificates(PASS) | join }}"] {
        let error = read(template, &endless).unwrap_err();
        assert!(error.message.contains("at most 1024 bytes"), "{error}");
    }
    let error = with(&endless).unwrap_err();
    assert!(error.message.contains("at most 1024 bytes") || error.message.contains("too much work"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Where a program is absent, nothing is asked of it: the test before this one
/// needs none.
#[test]
fn openssl_and_java_read_the_pkcs12_files_that_are_made_here_and_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let run = |program: &str, arguments: &[&str]| run(path, program, arguments);
    for (kind, password) in KINDS {
        let (key, certificate) = pair(kind);
        std::fs::write(path.join("key.pem"), &key).unwrap();
        std::fs::write(path.join("crt.pem"), &certificate).unwrap();
        let chain = certificate.repeat(2);
        let mut keys = vec![key.clone()];
        // The older form of the same key.
        let has_openssl = run("openssl", &["pkey", "-in", "key.pem", "-traditional", "-out", "old.pem"]).is_some();
        if has_openssl {
            keys.push(std::fs::read_to_string(path.join("old.pem")).unwrap());
            assert_ne!(keys[0], keys[1]);
        }
        // Equal keys have more than one encoding: openssl's own counts.
        let canonical = run("openssl", &["pkey", "-in", "key.pem"]);
        let pass = format!("pass:{password}");
        for pem in keys {
            let data: &[(&str, &[u8])] =
                &[("KEY", pem.as_bytes()), ("CRT", chain.as_bytes()), ("PASS", password.as_bytes())];
            let made = bytes(MAKE_P12, data).unwrap();
            std::fs::write(path.join("made.p12"), &made).unwrap();
            if let Some(shown) = run("openssl", &["pkcs12", "-in", "made.p12", "-passin", &pass, "-nodes"]) {
                assert!(shown.contains("PRIVATE KEY") && shown.contains(certificate.trim()), "{shown}");
                assert!(shown.contains("friendlyName: price bot"), "{shown}");
            }
            // How Java reads its arguments depends on the machine's locale.
            if password.is_ascii()
                && let Some(listed) = run("keytool", &["-list", "-keystore", "made.p12", "-storepass", password])
            {
                assert!(listed.contains("price bot") && listed.contains("PrivateKeyEntry"), "{listed}");
            }
            if !has_openssl {
                continue;
            }
            // And back again, both from ours and from openssl's own.
            run(
                "openssl",
                &["pkcs12", "-export", "-inkey", "key.pem", "-in", "crt.pem", "-passout", &pass, "-out", "theirs.p12"],
            );
            for (file, count) in [(made, 2), (std::fs::read(path.join("theirs.p12")).unwrap(), 1)] {
                let data: &[(&str, &[u8])] = &[("P12", &file), ("PASS", password.as_bytes())];
                let back = bytes("{{ P12 | pkcs12_key(PASS) }}", data).unwrap();
                std::fs::write(path.join("back.pem"), &back).unwrap();
                assert_eq!(run("openssl", &["pkey", "-in", "back.pem"]), canonical);
                let back = bytes("{{ P12 | pkcs12_certificates(PASS) | join }}", data).unwrap();
                assert_eq!(String::from_utf8(back).unwrap(), certificate.repeat(count));
            }
        }
    }
    let mut arguments = vec!["pkcs12", "-export", "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES"];
    arguments.extend(["-inkey", "key.pem", "-in", "crt.pem", "-passout", "pass:hunter2", "-out", "old.p12"]);
    if run("openssl", &arguments).is_some() {
        let old = std::fs::read(path.join("old.p12")).unwrap();
        let error = bytes("{{ P12 | pkcs12_key('hunter2') }}", &[("P12", &old)]).unwrap_err();
        assert!(error.message.contains("export it again") && !error.message.contains("hunter2"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn p5_no_damaged_pkcs12_file_makes_it_panic_or_work_for_long(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8), cut in any::<prop::sample::Index>(), noise in any::<Vec<u8>>()) {
        // Without an integrity check, so that what is damaged is looked at.
        let mut file = include_bytes!("../testdata/unchecked.p12").to_vec();
        for (place, byte) in &places {
            let place = place.index(file.len());
            file[place] = *byte;
        }
        let began = Instant::now();
        for file in [&file[..], &file[..cut.index(file.len())], &noise[..]] {
            for template in ["{{ P12 | pkcs12_key('a') }}", "{{ P12 | pkcs12_certificates('a') | join }}"] {
                let _ = bytes(template, &[("P12", file)]);
            }
        }
        prop_assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
