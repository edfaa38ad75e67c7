//! Whether a text that somebody else wrote may be repeated: not where it seems
//! to quote a value, in whatever form.

use std::{collections::HashSet, fmt::Write as _};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

use crate::secret::{SecretBytes, SecretData};

/// So many bytes of a value in a row are no chance.
const TELLING: usize = 8;
/// Values shorter than this are no secrets, and are found in any text.
const SHORTEST: usize = 4;

/// Whether this seems to quote one of these values: raw, in base64 or hex, or
/// escaped for JSON or a URL.
#[must_use]
pub fn quotes(said: &str, data: &SecretData) -> bool {
    let windows: HashSet<&[u8]> = said.as_bytes().windows(TELLING).collect();
    let has = |text: &[u8]| match text.len() {
        0..SHORTEST => false,
        SHORTEST..TELLING => said.as_bytes().windows(text.len()).any(|window| window == text),
        _ => text.windows(TELLING).any(|window| windows.contains(window)),
    };
    data.values().map(SecretBytes::expose).filter(|value| value.len() >= SHORTEST).any(|value| {
        has(value)
            // With or without padding: the rest is the same.
            || has(Zeroizing::new(STANDARD_NO_PAD.encode(value)).as_bytes())
            || has(Zeroizing::new(URL_SAFE_NO_PAD.encode(value)).as_bytes())
            || escaped(value).iter().any(|form| has(form.as_bytes()))
    })
}

fn escaped(value: &[u8]) -> Vec<Zeroizing<String>> {
    let form = |each: &dyn Fn(&mut String, u8)| {
        // As large as it gets: no part of it is left behind where it outgrew a place.
        let mut text = Zeroizing::new(String::with_capacity(value.len() * 6));
        for byte in value {
            each(&mut text, *byte);
        }
        text
    };
    // Writing to a String does not fail.
    let hex = |upper: bool| {
        move |text: &mut String, byte: u8| {
            let _ = if upper { write!(text, "{byte:02X}") } else { write!(text, "{byte:02x}") };
        }
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let percent = |space: &'static str, upper: bool| {
        move |text: &mut String, byte: u8| {
            let _ = match byte {
                b' ' => text.write_str(space),
                byte if plain(byte) => text.write_char(char::from(byte)),
                byte if upper => write!(text, "%{byte:02X}"),
                byte => write!(text, "%{byte:02x}"),
            };
        }
    };
    let mut forms = vec![
        form(&hex(false)),
        form(&hex(true)),
        form(&percent("%20", true)),
        form(&percent("%20", false)),
        form(&percent("+", true)),
    ];
    if let Ok(text) = std::str::from_utf8(value) {
        let mut json = Zeroizing::new(Vec::with_capacity(value.len() * 6 + 2));
        if serde_json::to_writer(&mut *json, text).is_ok()
            && let Ok(quoted) = std::str::from_utf8(&json)
        {
            forms.push(Zeroizing::new(quoted.trim_matches('"').to_owned()));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::quotes;
    use crate::secret::{SecretBytes, SecretData};

    #[test]
    fn p4_a_value_is_known_again_in_every_form_in_which_a_program_prints_one() {
        let data = SecretData::from([
            ("A".to_owned(), SecretBytes::new(b"hunter2 & a \"long\" value\n?>".to_vec())),
            ("PORT".to_owned(), SecretBytes::new(b"5432".to_vec())),
            ("ON".to_owned(), SecretBytes::new(b"yes".to_vec())),
            ("RAW".to_owned(), SecretBytes::new(vec![0xfb, 0xff, 0xfe, 0x10, 0x20, 0x80, 0xc3, 0x28, 0x99])),
        ]);
        for said in [
            "login with hunter2 & a failed",
            "aHVudGVyMiAmIGEgImxvbmciIHZhbHVlCj8+",
            "at url-safe: aHVudGVyMiAmIGEgImxvbmciIHZhbHVlCj8-",
            "hex 68756e74657232202620612022",
            "HEX 68756E74657232202620612022",
            "url hunter2%20%26%20a%20%22long",
            "form hunter2+%26+a+%22long",
            r#"json \"long\" value\n"#,
            "port 5432 is closed",
            "NTQzMg==",
            "bytes +//+ECCAwyiZ",
            "bytes -__-ECCAwyiZ",
            "bytes fbfffe102080c32899",
        ] {
            assert!(quotes(said, &data), "{said}");
        }
        for said in ["", "connection refused", "yes, that is so", "exit code 3", "port 543 is closed"] {
            assert!(!quotes(said, &data), "{said}");
        }
    }
}
