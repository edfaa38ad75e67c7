//! Time, memory and size are bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{super::rendered, keys, text};
use crate::{
    api::Template,
    build::{BuildErrorKind, MAX_SIZE},
    secret::SecretData,
};

/// Each of these must end soon, with an error, and without a value in it.
const BOMBS: &[&str] = &[
    "{{ 'x' * 1000000000 }}",
    "{{ ('x' * 1000000) * 1000000 }}",
    "{{ [0] * 1000000000 }}",
    "{% for i in range(1000000000) %}{{ i }}{% endfor %}",
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{{ range(1000000000) | list | length }}",
    "{{ range(100000000) | join }}",
    "{{ range(100000000) | sum }}",
    "{% set a = ['x' * 100] * 100 %}{% set b = [a] * 100 %}{% set c = [b] * 100 %}{% set d = [c] * 100 %}{{ (d ~ '') | length }}",
    "{% set a = ['x' * 100] * 100 %}{% set b = [a] * 100 %}{% set c = [b] * 100 %}{% set d = [c] * 100 %}{{ d | string | length }}",
    "{% set a = ['x' * 100] * 100 %}{% set b = [a] * 100 %}{% set c = [b] * 100 %}{% set d = [c] * 100 %}{{ d | upper | length }}",
    "{% set a = ['x' * 100] * 100 %}{% set b = [a] * 100 %}{% set c = [b] * 100 %}{% set d = [c] * 100 %}{{ [d] | join | length }}",
    "{% set a = ['x' * 100] * 100 %}{% set b = [a] * 100 %}{% set c = [b] * 100 %}{% set d = [c] * 100 %}{{ d | tojson }}",
    "{% set a = ['x' * 100] * 100 %}{% set b = [a] * 100 %}{% set c = [b] * 100 %}{% set d = [c] * 100 %}{{ d | toyaml }}",
    "{% set a = ['x' * 100] * 100 %}{% set b = [a] * 100 %}{% set c = [b] * 100 %}{% set d = [c] * 100 %}{{ d == c }}{{ d in [d, c] }}{{ d == d }}",
    "{% set a = [0] * 100 %}{% set b = [a] * 100 %}{% set c = [b] * 100 %}{% set d = [c] * 100 %}{% set e = [c] * 100 %}{{ [d, e, d] | unique | length }}{{ [d, e] | sort | length }}",
    "{% set a %}{% for i in range(1000000000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endset %}{{ a | length }}",
    "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(x) %}{{ x }}{{ f(x ~ x) }}{% endmacro %}{{ f('xxxxxxxxxx') }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ 'x' | indent(1000000000) }}",
    "{{ ('x\\n' * 10000) | indent(1000000) }}",
    "{{ 'x' | replace('', 'y' * 100000) | replace('', 'y' * 100000) }}",
    "{{ ('x' * 100000) | replace('x', 'y' * 100000) }}",
    "{{ 2 ** 1000000000 }}{{ 2 ** 2 ** 2 ** 2 ** 2 ** 2 }}",
    "{{ ('a: &a [x,x,x,x,x,x,x,x,x]\\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\\n') | fromyaml | length }}",
    "{{ ('[' * 1000000) | fromjson }}",
    "{{ ('[' * 100000) | fromyaml }}",
    "{{ ('{a: ' * 100000) | fromyaml }}",
    "{{ ('- ' * 100000) | fromyaml }}",
    "{{ range(100000000) | batch(1) | list | length }}",
    "{{ range(10) | slice(100000000) | list | length }}",
    "{{ 10.5 | round(1000000000) }}{{ 'x' * 100000000000 }}",
    "{{ ('a' * 500000) | pem_certificates | length }}{{ ('-----BEGIN CERTIFICATE-----\\n' * 100000) | pem_certificates }}",
    "{% for a in range(10000) %}{{ ('x' * 100000) | b64encode | length }}{% endfor %}",
    "{% for a in range(10000) %}{{ ('x' * 100000) | upper | length }}{% endfor %}",
    "{% set a = [SECRET, SECRET] %}{{ a }}",
    "{% for a in [secrets] %}{% for b in [[a, a]] %}{% for c in [[b, b]] %}{{ c ~ '' }}{{ [c, c] | list | string }}{% endfor %}{% endfor %}{% endfor %}",
    "{% set a = secrets | items | list | zip(secrets | items | list) %}",
    "{{ ('x ' | replace('x', '=' ~ SECRET)) | indent(1) }}",
    "{% set a %}{% for i in range(20000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endset %}{{ a | replace('x', a) }}",
    "{% set a %}{% for i in range(20000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endset %}{{ range(100000) | list | join(a) }}",
    "{% set a %}{% for i in range(20000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endset %}{% set a = a ~ a %}{% set a = a ~ a %}{% set a = a ~ a %}{% set a = a ~ a %}{% set a = a ~ a %}{% set a = a ~ a %}{% set a = a ~ a %}",
    "{% set a %}{% for i in range(20000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endset %}{{ {'a': a, 'b': a} | tojson }}",
    "{% set j = '[1,2,[3]]' | fromjson %}{% for i in range(100000) %}{% set k = '[0,0,0,0,0,0,0,0,0,0,0,0]' | fromjson %}{% endfor %}",
    "{% set l %}{% for i in range(30000) %}a\n{% endfor %}{% endset %}{% for i in range(1000) %}{{ l | lines | sort | unique | length }}{% endfor %}",
    "{{ 9 ** 9 ** 9 ** 9 }}",
    "{{ '{a: &a [1,2], b: &b [*a,*a], c: &c [*b,*b], d: [*c,*c]}' | fromyaml | string | length }}{{ 'x' | nosuch }}",
    "{% set a = ('[[[[1]]]]' | fromjson) %}{{ a[0][0][0][0] | b64decode }}",
    "{% include 'OUT' %}",
    "{% import 'OUT' as x %}",
    "{% extends 'OUT' %}",
    "{{ self.x() }}",
    "{{ debug() }}",
    "{{ namespace() }}",
];

#[test]
fn p5_templates_have_bounded_time_and_memory_and_no_io() {
    for template in BOMBS {
        let began = Instant::now();
        let outcome = text(template, &[("SECRET", "hunter2")]);
        println!("{:?} {template:.60}: {:?}", began.elapsed(), outcome.as_ref().map(String::len));
        let error = outcome.map(|made| made.len()).expect_err(template);
        assert!(matches!(error.kind, BuildErrorKind::Template | BuildErrorKind::TooLarge), "{template}: {error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{template} took {:?}", began.elapsed());
    }
}

#[test]
fn p5_yaml_is_paid_for_before_its_parser_takes_a_hundred_times_its_size() {
    for costly in ["[", "{", "- ", "? ", "[a,"] {
        let costly = costly.repeat((1 << 20) / costly.len());
        let error = text("{{ V | fromyaml | length }}", &[("V", &costly)]).expect_err("too much");
        assert!(error.message.contains("too much work"), "{error}");
    }
    let fair = format!("[{}]", "1, ".repeat(20_000));
    assert_eq!(text("{{ V | fromyaml | length }}", &[("V", &fair)]).unwrap(), "20000");
}

#[test]
fn the_budget_is_one_for_all_templates() {
    let one = "{% for i in range(60000) %}{% endfor %}x";
    assert_eq!(text(one, &[]).unwrap(), "x");
    let data = (0..100).map(|n| (format!("K{n}"), one.to_owned())).collect();
    let many = Template { data, merge_policy: None };
    let error = rendered(&many, &SecretData::new(), &BTreeSet::new()).unwrap_err();
    assert!(error.message.contains("too much work"), "{error}");
}

#[test]
fn outputs_fill_a_secret_to_the_last_byte_and_no_further() {
    let large = "x".repeat(MAX_SIZE - 3);
    assert_eq!(text("{{ X }}", &[("X", &large)]).unwrap().len(), MAX_SIZE - 3);
    let error = text("{{ X }}y", &[("X", &large)]).unwrap_err();
    assert_eq!(error.kind, BuildErrorKind::TooLarge);
    let half = "x".repeat(MAX_SIZE / 2);
    let data = BTreeMap::from(["A", "B", "C"].map(|key| (key.to_owned(), "{{ X }}".to_owned())));
    let error = rendered(&Template { data, merge_policy: None }, &keys(&[("X", half.as_bytes())]), &BTreeSet::new())
        .unwrap_err();
    assert_eq!((error.kind, error.secret_key.as_deref()), (BuildErrorKind::TooLarge, Some("B")));
}
