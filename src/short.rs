//! Short byte strings into vectors without a call.
//!
//! Rows, keys and payloads are made of texts of some ten bytes, a dozen and more an event, and the library's copy is a call that first finds out how
//! long each is. Owns copies whose length lies in a register: sixteen bytes are written, and those that were asked for are kept. Promises
//! exactly the bytes of [`Vec::extend_from_slice`].

/// So many bytes are copied without a call.
pub const SHORT: usize = 16;

/// Up to [`SHORT`] bytes, little endian; more are as if they were not there.
#[inline]
pub fn word(bytes: &[u8]) -> u128 {
    // Two reads from the two ends, which may say the middle twice.
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        return u128::from(first) | u128::from(last) << (8 * (bytes.len() - 8).min(8));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return (u64::from(first) | u64::from(last) << (8 * (bytes.len() - 4))).into();
    }
    match *bytes {
        [] => 0,
        [only] => only.into(),
        [first, last] => u32::from_le_bytes([first, last, 0, 0]).into(),
        [first, middle, last, ..] => u32::from_le_bytes([first, middle, last, 0]).into(),
    }
}

/// Adds bytes.
#[inline]
pub fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() > SHORT {
        out.extend_from_slice(bytes);
        return;
    }
    let end = out.len() + bytes.len();
    out.extend_from_slice(&word(bytes).to_le_bytes());
    out.truncate(end);
}

/// Adds a text as its length, LEB128, and its bytes.
#[inline]
pub fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    if text.len() < SHORT {
        let end = out.len() + 1 + text.len();
        out.extend_from_slice(&(word(text) << 8 | text.len() as u128).to_le_bytes());
        out.truncate(end);
        return;
    }
    push_number(out, text.len() as u64);
    if let (Some(first), Some(last), true) = (text.first_chunk::<SHORT>(), text.last_chunk::<SHORT>(), text.len() <= 2 * SHORT) {
        let start = out.len();
        out.extend_from_slice(first);
        out.extend_from_slice(last);
        // The first of the last sixteen bytes are said twice.
        let begin = start + text.len() - SHORT;
        if let Some(place) = out.get_mut(begin..begin + SHORT) {
            place.copy_from_slice(last);
        }
        out.truncate(start + text.len());
        return;
    }
    out.extend_from_slice(text);
}

/// Adds a number as LEB128.
#[inline]
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut rest = number;
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_library_whatever_the_length() {
        let text: Vec<u8> = (0..=299_u32).map(|number| (number * 7 % 251) as u8 | 1).collect();
        for length in (0..70).chain([127, 128, 300]) {
            let bytes = text.get(..length).expect("long enough");
            let (mut plain, mut with_length) = (b"before".to_vec(), b"before".to_vec());
            push(&mut plain, bytes);
            push_text(&mut with_length, bytes);
            assert_eq!(plain, [b"before", bytes].concat(), "{length}");
            let mut head = Vec::new();
            push_number(&mut head, length as u64);
            assert_eq!(head.len(), if length < 128 { 1 } else { 2 });
            assert_eq!(with_length, [b"before", &head[..], bytes].concat(), "{length}");
        }
    }
}
