//! The body of a token request: it holds what proves who asks.

use bytes::Bytes;
use reqwest::Body;
use zeroize::Zeroizing;

/// `application/x-www-form-urlencoded`, in memory that is zeroed.
#[derive(Default)]
pub(super) struct Form(Zeroizing<Vec<u8>>);

impl Form {
    pub(super) fn put(&mut self, name: &str, value: &str) {
        // By hand: a Vec that grows leaves its old bytes behind.
        let needed = self.0.len() + 2 + 3 * (name.len() + value.len());
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed * 2));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        if !self.0.is_empty() {
            self.0.push(b'&');
        }
        encode(name, &mut self.0);
        self.0.push(b'=');
        encode(value, &mut self.0);
    }

    /// As a request's body, which is zeroed once it is sent.
    pub(super) fn into_body(self) -> Body {
        Bytes::from_owner(self.0).into()
    }
}

/// Percent-encodes all but what no encoder touches, so that every decoder
/// agrees.
pub(super) fn encode(text: &str, into: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            into.push(byte);
        } else {
            into.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Form;

    #[test]
    fn p5_no_value_of_a_form_can_become_another_parameter() {
        let mut form = Form::default();
        form.put("client_id", "a&scope=admin");
        form.put("client_secret", "+ %=ü~*");
        form.put("audience", "//i/ä x-y_z.");
        let body = form.into_body();
        let body = std::str::from_utf8(body.as_bytes().expect("whole")).expect("ASCII");
        assert_eq!(
            body,
            "client_id=a%26scope%3Dadmin&client_secret=%2B%20%25%3D%C3%BC%7E%2A&audience=%2F%2Fi%2F%C3%A4%20x-y_z."
        );
    }
}
