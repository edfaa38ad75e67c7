//! What each helper makes.

use super::{bytes, text};

#[test]
fn each_helper_does_what_the_table_says() {
    let pem = "subject=x\n-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\nMAE=\n-----END RSA PRIVATE KEY-----\nsubject=y\n-----BEGIN CERTIFICATE-----\r\nMAI=\r\n-----END CERTIFICATE-----\r\n";
    let data = [
        ("USER", "bot"),
        ("PASSWORD", "p@ss/w:rd? &ż"),
        ("JSON", r#"{"b": 1.0, "a": [1, true, null, "x<y"], "big": 12345678901234567890, "e": 1e400, "n": 0.10}"#),
        ("YAML", "a: 1\nlist: [x, 1.5, true]\n"),
        ("B64", "aGk="),
        ("tls.crt", pem),
        ("SPACES", "  x \n"),
    ];
    for (template, wanted) in [
        ("{{ USER }}", "bot"),
        ("{{ secrets.USER }}:{{ secrets['tls.crt'] | length }}", &format!("bot:{}", pem.len())),
        ("as it is\r\n", "as it is\r\n"),
        ("{{ USER }}\n", "bot\n"),
        ("{{ USER | b64encode }}", "Ym90"),
        ("{{ B64 | b64decode }}", "hi"),
        ("{{ '~~?' | b64urlencode }} {{ 'fn4_' | b64urldecode }}", "fn4_ ~~?"),
        ("{{ PASSWORD | urlencode }}", "p%40ss%2Fw%3Ard%3F%20%26%C5%BC"),
        (
            "{{ JSON | fromjson | tojson }}",
            r#"{"a":[1,true,null,"x<y"],"b":1.0,"big":"12345678901234567890","e":"1e400","n":"0.10"}"#,
        ),
        (
            "{{ (JSON | fromjson).b }} {{ (JSON | fromjson).big }} {{ (JSON | fromjson).e }}",
            "1.0 12345678901234567890 1e400",
        ),
        ("{{ (JSON | fromjson).a[3] }}", "x<y"),
        ("{{ (YAML | fromyaml).list[1] - 1 }}", "0.5"),
        ("{{ {'b': [1], 'a': 'x: y'} | toyaml }}", "a: 'x: y'\nb:\n- 1\n"),
        ("{{ {'b': [1], 'a': 'x'} | tojson }}", r#"{"a":"x","b":[1]}"#),
        ("{{ secrets['tls.crt'] | pem_certificates | length }}", "2"),
        (
            "{{ secrets['tls.crt'] | pem_certificates | last }}",
            "-----BEGIN CERTIFICATE-----\nMAI=\n-----END CERTIFICATE-----\n",
        ),
        (
            "{{ secrets['tls.crt'] | pem_keys | join }}",
            "-----BEGIN RSA PRIVATE KEY-----\nMAE=\n-----END RSA PRIVATE KEY-----\n",
        ),
        ("{{ {'A': 'x', 'B': 'a b', 'C': \"it's $5\", 'D': ''} | dotenv }}", "A=x\nB='a b'\nC=\"it's \\$5\"\nD=''\n"),
        (
            "{{ postgres_url(user=USER, password=PASSWORD, host='db', port=5432, database='a/b', options={'sslmode': 'verify-full'}) }}",
            "postgresql://bot:p%40ss%2Fw%3Ard%3F%20%26%C5%BC@db:5432/a%2Fb?sslmode=verify-full",
        ),
        ("{{ mysql_url(user=USER, password='', host='10.0.0.1') }}", "mysql://bot:@10.0.0.1"),
        (
            "{{ redis_url(password='x', host='[::1]', port='6379', database=0, scheme='rediss') }}",
            "rediss://:x@[::1]:6379/0",
        ),
        ("{{ amqp_url(user=USER, password='x', host='mq', vhost='/') }}", "amqp://bot:x@mq/%2F"),
        ("{{ mongodb_url(host='a:1,b:2', database='d') }}", "mongodb://a:1,b:2/d"),
        (
            "{{ USER | upper }} {{ 'BoT' | lower }} [{{ SPACES | trim }}] {{ USER | replace('o', '0') }}",
            "BOT bot [x] b0t",
        ),
        (
            "{{ secrets.MISSING is defined }} {{ secrets.MISSING | default('d') }} {{ MISSING | default('d') }}",
            "false d d",
        ),
        (
            "{% for key, value in secrets | items %}{% if key == 'USER' %}{{ key }}={{ value }}{% endif %}{% endfor %}",
            "USER=bot",
        ),
        ("{% set u = USER | upper %}{% if u == 'BOT' %}yes{% else %}no{% endif %}", "yes"),
        ("{{ '<' ~ 1 ~ '&' }}", "<1&"),
        ("{% for x in [USER, 'y'] %}{{ x }};{% endfor %}{{ USER in ['a', USER] }}", "bot;y;true"),
        ("{% set a = ['x', 'y'] %}{{ a[1:] | join(',') }}{{ [USER, 1] | join('-') }}", "ybot-1"),
        (
            "{{ {'auths': {'r.example': {'auth': (USER ~ ':x') | b64encode}}} | tojson }}",
            r#"{"auths":{"r.example":{"auth":"Ym90Ong="}}}"#,
        ),
        ("{% macro pair(key) %}{{ key }}={{ secrets[key] }}{% endmacro %}{{ pair('USER') }}", "USER=bot"),
        ("{{ true }} {{ 1 }} {{ 1.5 }}", "true 1 1.5"),
    ] {
        match text(template, &data) {
            Ok(made) => assert_eq!(made, wanted, "{template}"),
            Err(error) => panic!("{template}: {error}"),
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_copied_or_encoded_and_never_garbled() {
    let data: &[(&str, &[u8])] = &[("BIN", b"\xff\x00\xfe"), ("B64", b"/wD+"), ("TEXT", b"x")];
    assert_eq!(bytes("{{ BIN | b64encode }}", data).unwrap(), b"/wD+");
    assert_eq!(bytes("{{ BIN }}", data).unwrap(), b"\xff\x00\xfe");
    assert_eq!(bytes("{{ B64 | b64decode }}", data).unwrap(), b"\xff\x00\xfe");
    assert_eq!(bytes("{% set x = B64 | b64decode %}{{ x | b64encode }}", data).unwrap(), b"/wD+");
    for template in [
        "{{ BIN }}{{ TEXT }}",
        "{{ BIN }}\n",
        "{{ BIN }}{{ BIN }}",
        "{{ BIN ~ '' }}",
        "{{ BIN | upper }}",
        "{{ BIN | string }}",
        "{{ [BIN] | join(',') }}",
        "{{ [BIN] | tojson }}",
        "{{ BIN | tojson }}",
        "{{ {'a': BIN} | toyaml }}",
        "{{ BIN | b64decode }}",
        "{{ BIN | urlencode | length }}{{ BIN | trim }}",
        "{% set x %}{{ BIN }}{% endset %}{{ x | b64encode }}",
        "{{ secrets | dotenv }}",
    ] {
        let error = bytes(template, data).expect_err(template);
        assert!(error.message.contains("UTF-8"), "{template}: {error}");
    }
}
