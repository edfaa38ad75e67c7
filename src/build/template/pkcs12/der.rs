//! As much DER as PKCS#12 needs, one level at a time.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OID: u8 = 0x06;
pub(super) const BMP_STRING: u8 = 0x1e;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]`, explicit, and implicit for a primitive.
pub(super) const EXPLICIT: u8 = 0xa0;
pub(super) const IMPLICIT: u8 = 0x80;

/// Reads elements one after the other.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element: its tag, what it holds, and the whole of it.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let (tag, first) = (*self.0.first()?, *self.0.get(1)?);
        let (length, header) = if first < 0x80 {
            (usize::from(first), 2)
        } else {
            // No indefinite lengths, and none beyond 4 GiB.
            let count = usize::from(first & 0x7f);
            let bytes = self.0.get(2..2 + count).filter(|bytes| (1..=4).contains(&bytes.len()))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + count)
        };
        let (whole, rest) = self.0.split_at_checked(header.checked_add(length)?)?;
        self.0 = rest;
        Some((tag, whole.get(header..)?, whole))
    }

    /// What the next element holds, if it has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let (found, content, _) = ahead.next()?;
        (found == tag).then(|| {
            *self = ahead;
            content
        })
    }

    /// The elements inside the next one.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Reader<'a>> {
        self.take(tag).map(Reader)
    }

    /// A number that is not negative.
    pub(super) fn number(&mut self) -> Option<u32> {
        let bytes = self.take(INTEGER).filter(|bytes| (1..=5).contains(&bytes.len()) && bytes.first() < Some(&0x80))?;
        u32::try_from(bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))).ok()
    }
}

/// One element that holds these parts.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(length + 6);
    bytes.push(tag);
    let encoded = length.to_be_bytes();
    let digits: Vec<u8> = encoded.iter().copied().skip_while(|byte| *byte == 0).collect();
    if length < 0x80 {
        bytes.push(digits.first().copied().unwrap_or(0));
    } else {
        // At most eight digits.
        bytes.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
        bytes.extend(digits);
    }
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

pub(super) fn number(value: u32) -> Vec<u8> {
    let mut bytes: Vec<u8> = value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    if bytes.first().is_none_or(|first| *first >= 0x80) {
        bytes.insert(0, 0);
    }
    element(INTEGER, &[&bytes])
}
