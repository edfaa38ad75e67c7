//! Types that hold secret values: they cannot be printed or cloned by
//! accident, and what they held is zeroed when they go.

use std::{collections::BTreeMap, fmt};

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The bytes of one value. No `Clone`, no `Display`; `Debug` shows the length.
#[derive(Zeroize, ZeroizeOnDrop, PartialEq, Eq)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes ownership of the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for as long as the borrow lasts.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the value is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A second copy, made on purpose: one remote value may fill several keys.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// Hands the bytes over to a type that does not zero them.
    #[must_use]
    pub fn into_exposed(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{} bytes]", self.0.len())
    }
}

/// Text that must not be printed, such as a token.
#[derive(Zeroize, ZeroizeOnDrop, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Takes ownership of the text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for as long as the borrow lasts.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[text]")
    }
}

/// How much of a stack is overwritten: more than what is called in between may take up.
const STACK: usize = 128 << 10;

/// Overwrites what calls that are over left on this thread's stack: for those of libraries
/// that keep a short text in place, not in memory of its own, which is wiped.
#[inline(never)]
#[allow(clippy::large_stack_arrays, reason = "that is what it is for")]
pub(crate) fn wipe_stack() {
    // Looked at from where the compiler cannot see, so that it is really written.
    std::hint::black_box(&mut [0_u8; STACK]);
}

/// The data of a Secret by key.
pub type SecretData = BTreeMap<String, SecretBytes>;

#[cfg(test)]
mod tests {
    use super::{SecretBytes, SecretText};

    #[test]
    fn p4_debug_output_shows_no_value() {
        let shown = format!("{:?} {:?}", SecretBytes::new(b"hunter2".to_vec()), SecretText::new("hunter2".into()));
        assert_eq!(shown, "[7 bytes] [text]");
    }
}
