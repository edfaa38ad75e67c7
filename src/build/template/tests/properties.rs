//! What holds for every value, and for every template.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{bytes, text};

/// What the shell makes of the file: every variable, each ended by a zero byte.
fn sourced(file: &str, names: &[&String]) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("env");
    std::fs::write(&path, file).unwrap();
    let print: String = names.iter().fold(String::new(), |all, name| all + &format!("printf '%s\\0' \"${name}\"; "));
    let script = format!(". {}; {print}", path.display());
    let output = std::process::Command::new("sh").env_clear().args(["-c", &script]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut values: Vec<Vec<u8>> = output.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    values.pop();
    values
}

fn awkward() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,12}", "[\\\\'\"$`\n\r\t #=!{}~a-b]{0,8}", "\\PC{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_shell_reads_exactly_what_dotenv_wrote(values in prop::collection::vec(awkward(), 1..8)) {
        let data: BTreeMap<String, String> =
            values.into_iter().enumerate().map(|(n, value)| (format!("V{n}_x"), value)).collect();
        let pairs: Vec<_> = data.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let file = text("{{ secrets | dotenv }}", &pairs).unwrap();
        let names: Vec<_> = data.keys().collect();
        let wanted: Vec<Vec<u8>> = data.values().map(|value| value.clone().into_bytes()).collect();
        prop_assert_eq!(sourced(&file, &names), wanted, "{}", file);
    }

    #[test]
    fn urls_are_taken_apart_into_what_they_were_made_of(user in awkward(), password in awkward(), database in awkward()) {
        prop_assume!(!user.is_empty() && !database.is_empty() && !matches!(database.as_str(), "." | ".."));
        let template = "{{ postgres_url(user=U, password=P, host='db.example', port=5432, database=D) }}";
        let made = text(template, &[("U", &user), ("P", &password), ("D", &database)]).unwrap();
        let url = reqwest::Url::parse(&made).unwrap();
        let decoded = |text: &str| {
            let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
            while let [first, after @ ..] = rest {
                rest = after;
                if *first == b'%' {
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
                    rest = &after[2..];
                } else {
                    bytes.push(*first);
                }
            }
            String::from_utf8(bytes).unwrap()
        };
        prop_assert_eq!(decoded(url.username()), user);
        prop_assert_eq!(decoded(url.password().unwrap_or_default()), password);
        prop_assert_eq!(decoded(url.path().trim_start_matches('/')), database);
        prop_assert_eq!(url.port(), Some(5432));
    }

    #[test]
    fn json_and_yaml_come_back_as_they_were(value in awkward(), name in "[a-z]{1,4}") {
        for (to, from) in [("tojson", "fromjson"), ("toyaml", "fromyaml")] {
            let template = format!("{{{{ ({{'{name}': V}} | {to} | {from}).{name} }}}}");
            prop_assert_eq!(text(&template, &[("V", &value)]).unwrap(), value.clone());
        }
    }
}

proptest! {
    #[test]
    fn no_template_and_no_value_makes_it_panic_leak_or_differ(
        pieces in prop::collection::vec(prop_oneof![
            Just("{{ "), Just(" }}"), Just("{% "), Just(" %}"), Just("SECRET"), Just("BIN"), Just("secrets"), Just(" | "),
            Just("b64encode"), Just("b64decode"), Just("fromjson"), Just("fromyaml"), Just("tojson"), Just("dotenv"),
            Just("pem_keys"), Just("upper"), Just("int"), Just("list"), Just("for x in "), Just("endfor"), Just("if "),
            Just("endif"), Just("set a = "), Just("a"), Just("x"), Just("("), Just(")"), Just("["), Just("]"), Just("*"),
            Just("~"), Just("."), Just("'"), Just("9"), Just(","), Just("range"), Just("redis_url"), Just("host="),
            Just("macro f()"), Just("endmacro"), Just("f"), Just("\n"), Just("{# #}"), Just("attr"), Just("map"),
        ], 0..24),
        noise in any::<String>(),
        binary in any::<Vec<u8>>(),
    ) {
        let canary = "canary-0c9f";
        for template in [pieces.concat(), format!("{{{{ {} }}}}", pieces.concat()), noise.clone()] {
            let data: &[(&str, &[u8])] = &[("SECRET", canary.as_bytes()), ("BIN", &binary), ("NOISE", noise.as_bytes())];
            let (one, other) = (bytes(&template, data), bytes(&template, data));
            prop_assert_eq!(&one, &other);
            if let Err(error) = one {
                let shown = format!("{error} {error:?}");
                prop_assert!(!shown.contains(canary) || template.contains(canary), "{}", shown);
            }
        }
    }

    #[test]
    fn values_go_through_templates_byte_by_byte(value in any::<Vec<u8>>()) {
        prop_assert_eq!(&bytes("{{ V }}", &[("V", &value)]).unwrap(), &value);
        prop_assert_eq!(&bytes("{{ V | b64encode | b64decode }}", &[("V", &value)]).unwrap(), &value);
        prop_assert_eq!(&bytes("{{ V | b64urlencode | b64urldecode }}", &[("V", &value)]).unwrap(), &value);
    }
}
