//! What is done to values, with any value and any template (see [`crate::fuzzing`]).
#![allow(clippy::expect_used, reason = "a finding is a panic")]

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    BuildError, MAX_SIZE, decode,
    json::Json,
    property::Content,
    rewrite::Rewriting,
    template::{
        self, Renderer,
        pem::{self as blocks, Wanted},
    },
    value_of,
};
use crate::{
    api::{DecodingStrategy, Rewrite, Template},
    fuzzing::{CANARY, split},
    secret::{SecretBytes, SecretData, SecretText},
    stores::{Payload, RemoteSecret},
};

/// What a template makes of these values.
fn rendered(source: &str, data: &[(&str, &[u8])]) -> Result<SecretBytes, BuildError> {
    let template = Template { data: BTreeMap::from([("OUT".to_owned(), source.to_owned())]), merge_policy: None };
    let data: SecretData =
        data.iter().map(|(key, value)| ((*key).to_owned(), SecretBytes::new(value.to_vec()))).collect();
    let (mut made, _) = template::rendered(&template, &data, &BTreeSet::new())?;
    Ok(made.remove("OUT").expect("every template makes its key"))
}

/// A value, and a template: the same twice, bounded, and silent about values.
pub(crate) fn templates(input: &[u8]) {
    let Some((value, source)) = split(input) else { return };
    let Ok(source) = std::str::from_utf8(source) else { return };
    let data: [(&str, &[u8]); 3] =
        [("SECRET", CANARY.as_bytes()), ("VALUE", value.as_bytes()), ("BIN", &[0xff, 0xfe, 0x00])];
    let made = rendered(source, &data);
    assert_eq!(made, rendered(source, &data), "a refresh is no rotation");
    match made {
        Ok(made) => {
            assert!(made.len() <= MAX_SIZE);
            assert!(Renderer::new().check(source).is_ok(), "what renders is a template");
        }
        Err(error) => {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(CANARY) || source.contains(CANARY), "the error quotes a value: {shown}");
        }
    }
}

/// Any bytes through the helpers: what has an inverse comes back.
pub(crate) fn decoding(input: &[u8]) {
    let data: [(&str, &[u8]); 1] = [("V", input)];
    for same in ["{{ V }}", "{{ V | b64encode | b64decode }}", "{{ V | b64urlencode | b64urldecode }}"] {
        assert_eq!(rendered(same, &data).expect(same).expose(), input, "{same}");
    }
    for strategy in
        [DecodingStrategy::None, DecodingStrategy::Base64, DecodingStrategy::Base64URL, DecodingStrategy::Auto]
    {
        let decoded = |bytes: &[u8], strategy| decode::decoded(SecretBytes::new(bytes.to_vec()), strategy);
        let Some(value) = decoded(input, strategy) else { continue };
        assert!(value.len() <= input.len(), "{strategy:?} makes more of it");
        let encoded = STANDARD.encode(value.expose());
        assert_eq!(decoded(encoded.as_bytes(), DecodingStrategy::Base64), Some(value), "{strategy:?}");
    }
}

/// What is read from a text and written again is read the same, where it is small
/// enough to be paid for once more.
fn again(template: &str, input: &[u8]) {
    if let Ok(made) = rendered(template, &[("V", input)])
        && made.len() <= 16 << 10
    {
        let once_more = rendered(template, &[("V", made.expose())]);
        assert_eq!(once_more.map(SecretBytes::into_exposed), Ok(made.into_exposed()), "{template}");
    }
}

/// What one template makes of a text another makes of it as well, where both can.
fn same(templates: [&str; 2], input: &[u8]) {
    let [one, other] = templates;
    if let Ok(made) = rendered(one, &[("V", input)])
        && let Ok(also) = rendered(other, &[("V", input)])
    {
        assert_eq!(made.into_exposed(), also.into_exposed(), "{one} and {other}");
    }
}

/// Longer ones may cost more than one template may.
const SHORT: usize = 512;

/// JSON in templates.
pub(crate) fn json(input: &[u8]) {
    // A number whose spelling cannot be kept becomes text, and that stays.
    let once = rendered("{{ V | fromjson | tojson }}", &[("V", input)]);
    if let Ok(once) = once {
        again("{{ V | fromjson | tojson }}", once.expose());
    }
    let _ = rendered("{{ V | fromjson | toyaml }}{{ V | fromjson | items | length }}", &[("V", input)]);
    if std::str::from_utf8(input).is_ok() {
        let same = rendered("{{ ({'a': V} | tojson | fromjson).a }}", &[("V", input)]);
        assert_eq!(same.map(SecretBytes::into_exposed), Ok(input.to_vec()));
    }
    same(["{{ V | fromjson | tojson }}", "{{ V | fromjson | toyaml | fromyaml | tojson }}"], input);
}

/// YAML in templates.
pub(crate) fn yaml(input: &[u8]) {
    again("{{ V | fromyaml | toyaml }}", input);
    same(["{{ V | fromyaml | tojson }}", "{{ V | fromyaml | toyaml | fromyaml | tojson }}"], input);
    if input.len() <= SHORT && std::str::from_utf8(input).is_ok() {
        let kept = rendered("{{ ({'a': V} | toyaml | fromyaml).a }}", &[("V", input)]);
        assert_eq!(kept.map(SecretBytes::into_exposed), Ok(input.to_vec()));
    }
    let _ = rendered("{{ V | fromyaml | tojson }}", &[("V", input)]);
    let _ = rendered("{{ {'a': V} | dotenv }}{{ {'a': V, 'b': V} | toyaml }}", &[("V", input)]);
}

/// PEM: what is found in a text is found in what was found.
pub(crate) fn pem(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for wanted in [Wanted::Certificates, Wanted::Keys] {
        let found: Vec<String> = blocks::blocks(text, wanted).collect();
        let all = found.concat();
        assert!(all.len() <= text.len() + 1, "more than there was");
        assert!(found.iter().all(|block| block.starts_with("-----BEGIN ") && block.ends_with("-----\n")), "{all}");
        assert_eq!(blocks::blocks(&all, wanted).collect::<Vec<_>>(), found);
        assert!(!blocks::holds(text, wanted) || !found.is_empty());
    }
}

/// A password, and a PKCS#12 file: what is in it is PEM.
pub(crate) fn pkcs12(input: &[u8]) {
    let Some((password, file)) = split(input) else { return };
    let data: [(&str, &[u8]); 2] = [("FILE", file), ("PASSWORD", password.as_bytes())];
    for (template, wanted) in [
        ("{{ FILE | pkcs12_key(PASSWORD) }}", Wanted::Keys),
        ("{{ FILE | pkcs12_certificates(PASSWORD) | join }}", Wanted::Certificates),
    ] {
        let Ok(made) = rendered(template, &data) else { continue };
        let text = std::str::from_utf8(made.expose()).expect("PEM is text");
        assert_eq!(blocks::blocks(text, wanted).collect::<String>(), text);
    }
}

/// A password, and PEM: the file that is made of both holds what the PEM does, and is
/// the same each time.
pub(crate) fn pkcs12_made(input: &[u8]) {
    let Some((password, pem)) = split(input) else { return };
    let data: [(&str, &[u8]); 2] = [("PEM", pem), ("PASSWORD", password.as_bytes())];
    let template = "{{ pkcs12(key=PEM, certificates=PEM, password=PASSWORD, name='price bot') }}";
    let Ok(file) = rendered(template, &data) else { return };
    let again = rendered(template, &data);
    assert!(again.is_ok_and(|again| again == file), "a refresh is no rotation");
    let data: [(&str, &[u8]); 2] = [("FILE", file.expose()), ("PASSWORD", password.as_bytes())];
    let read = |template| {
        let made = rendered(template, &data).expect("what was written is read");
        String::from_utf8(made.into_exposed()).expect("PEM is text")
    };
    let text = std::str::from_utf8(pem).expect("it was read as text");
    let all = |text: &str, wanted| blocks::blocks(text, wanted).map(|block| der(&block)).collect::<Vec<_>>();
    let certificates = read("{{ FILE | pkcs12_certificates(PASSWORD) | join }}");
    assert_eq!(all(&certificates, Wanted::Certificates), all(text, Wanted::Certificates));
    let key = read("{{ FILE | pkcs12_key(PASSWORD) }}");
    let first = |text: &str| all(text, Wanted::Keys).into_iter().next().flatten().expect("a key");
    let (written, given) = (first(&key), first(text));
    // A key of an older form lies within one of PKCS#8.
    assert!(given.is_empty() || written.windows(given.len()).any(|part| part == given));
}

/// What a block of PEM holds.
fn der(block: &str) -> Option<Vec<u8>> {
    let body: String = block.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).ok()
}

/// A property, and a remote secret in each of its shapes.
pub(crate) fn properties(input: &[u8]) {
    let Some((property, content)) = split(input) else { return };
    let Ok(text) = std::str::from_utf8(content) else { return };
    let read = |payload| RemoteSecret::of(payload);
    let bytes = || SecretBytes::new(content.to_vec());
    for read in [read(Payload::Json(SecretText::new(text.to_owned()))), read(Payload::Bytes(bytes()))] {
        for property in [None, Some(property)] {
            if let Some(value) = value_of(&read, property) {
                assert!(value.len() <= content.len(), "more than was read");
                whole(&value);
            }
            let _ = Content::of(&read).members::<()>(property, |_, value| {
                let _ = value();
                Ok(())
            });
        }
    }
    let fields = read(Payload::Fields(BTreeMap::from([("a".to_owned(), bytes()), ("b.c".to_owned(), bytes())])));
    let object = read(Payload::Bytes(value_of(&fields, None).expect("text becomes an object")));
    assert_eq!(value_of(&object, Some("a")), Some(bytes()), "what became of the fields holds them");
    assert_eq!(value_of(&object, Some("b.c")), Some(bytes()), "a name with a dot, too");
    let _ = value_of(&fields, Some(property));
}

/// An object or array that was picked is, as a remote secret of its own, the same.
fn whole(value: &SecretBytes) {
    let Ok(text) = std::str::from_utf8(value.expose()) else { return };
    if Json::parse(text).is_some() && text.starts_with(['{', '[']) {
        let payload = Payload::Json(SecretText::new(text.to_owned()));
        let read = RemoteSecret::of(payload);
        let compact = value_of(&read, None).expect("it was an object");
        let payload = Payload::Json(SecretText::new(String::from_utf8_lossy(compact.expose()).into_owned()));
        let read = RemoteSecret::of(payload);
        assert_eq!(value_of(&read, None), Some(compact), "white space goes once");
    }
}

/// A name, and the steps that rewrite it, in JSON.
pub(crate) fn rewrites(input: &[u8]) {
    let Some((name, steps)) = split(input) else { return };
    let Ok(steps) = serde_json::from_slice::<Vec<Rewrite>>(steps) else { return };
    let Ok(rewriting) = Rewriting::new(0, &steps) else { return };
    if let Ok(key) = rewriting.key(name) {
        assert!(steps.is_empty() || key.len() <= 1024, "{} bytes", key.len());
    }
}
