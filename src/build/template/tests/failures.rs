//! What is said of a template that fails.

use super::{
    super::{Renderer, context},
    keys, text,
};
use crate::build::BuildErrorKind;

#[test]
fn p4_each_failure_names_key_and_line_and_what_to_do_and_no_value() {
    let data = [("PASSWORD", "hunter2"), ("JSON", "{\"hunter2\": "), ("MAP", "{\"hunter2\": \"hunter2\"}")];
    for (template, words) in [
        ("\n{{ PASWORD }}", &["key OUT", "line 2", "not there", "nothing fills PASWORD"][..]),
        ("{{ secrets.PASWORD }}", &["not there"]),
        ("{{ PASSWORD", &["no valid template"]),
        ("{% if %}", &["no valid template"]),
        ("{{ PASSWORD | b64dec }}", &["filter that does not exist"]),
        ("{{ sha256(PASSWORD) }}", &["function that does not exist"]),
        ("{{ PASSWORD | sha256 }}", &["filter that does not exist"]),
        ("{{ PASSWORD.hunter() }}", &["method that does not exist"]),
        ("{{ now() }}", &["function that does not exist"]),
        ("{{ PASSWORD | b64decode }}", &["not Base64"]),
        ("{{ '+' | b64urldecode }}", &["not Base64 for URLs"]),
        ("{{ JSON | fromjson }}", &["not JSON"]),
        ("{{ JSON | fromyaml }}", &["not one YAML document"]),
        ("{{ 'a: 1\\na: 2' | fromyaml }}", &["not one YAML document"]),
        ("{{ '!x hunter2' | fromyaml }}", &["not one YAML document"]),
        ("{{ '--- a\\n--- b' | fromyaml }}", &["not one YAML document"]),
        ("{{ MAP | fromjson }}", &["list or map as it is", "tojson"]),
        ("{{ MAP | fromjson | b64encode }}", &["list or map as text"]),
        ("{{ 'null' | fromjson }}", &["null"]),
        ("{{ PASSWORD | int }}", &["does not allow"]),
        ("{{ PASSWORD + 1 }}", &["uses + or *", "with ~"]),
        ("{{ PASSWORD - 1 }}", &["does not allow"]),
        ("{% set a = [PASSWORD] %}", &["puts values into a list or map"]),
        ("{% macro postgres_url(host) %}{{ host }}{% endmacro %}", &["choose another name"]),
        ("{{ postgres_url(**secrets) }}", &["one by one"]),
        ("{{ PASSWORD | dotenv }}", &["no map"]),
        ("{{ {'a-b': PASSWORD} | dotenv }}", &["environment variable"]),
        ("{{ {'a': 'x\\0'} | dotenv }}", &["zero byte"]),
        ("{{ postgres_url(password=PASSWORD) }}", &["needs a host"]),
        ("{{ postgres_url(host=PASSWORD ~ '/') }}", &["host is a name"]),
        ("{{ postgres_url(host='a', port=PASSWORD) }}", &["port is a number"]),
        ("{{ postgres_url(host='a', hunter=PASSWORD) }}", &["arguments"]),
        ("{{ postgres_url(host='a', scheme=PASSWORD ~ ':') }}", &["scheme consists"]),
        ("{{ PASSWORD | replace }}", &["arguments"]),
        ("{% include PASSWORD %}", &["another template"]),
        ("{{ secrets[PASSWORD] }}", &["not there"]),
        ("{{ secrets | items | hunter }}", &["filter that does not exist"]),
        ("{{ PASSWORD is hunter }}", &["test that does not exist"]),
    ] {
        let error = text(template, &data).map(|made| made.len()).expect_err(template);
        assert_eq!(error.kind, BuildErrorKind::Template, "{template}");
        for word in words {
            assert!(error.message.contains(word), "{template}: {word:?} is not in: {error}");
        }
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{template}: {error}");
    }
}

#[test]
fn p4_what_templates_hold_cannot_be_printed() {
    let renderer = Renderer::new();
    let data = keys(&[("BIN", b"\xffhunter2")]);
    let shown = format!("{:?}", renderer.marks());
    assert!(!shown.contains("hunter2"), "{shown}");
    let value = context(&renderer, &data).get_attr("BIN").unwrap();
    assert!(!format!("{value:?} {value}").contains("hunter2"));
}
