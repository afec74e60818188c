//! Bytes in pages that do not grow: nothing is copied, and little memory is touched for the first time.

use crate::short;

/// Of a column's first page; each further one is twice as large, up to [`LARGEST_PAGE`].
const FIRST_PAGE: usize = 8 << 10;
pub(super) const LARGEST_PAGE: usize = 256 << 10;

/// Beside its bytes, a text wants room for the longest LEB128 of its length, and for what a short copy writes behind it.
const MOST_AROUND: usize = 32;

/// Bytes in pages; no value lies in two.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
}

impl Pages {
    /// Adds a value of so many bytes. One question for its room, not a second one of the vector's own.
    #[inline]
    pub fn push<const WIDTH: usize>(&mut self, value: [u8; WIDTH], spare: &mut Vec<Vec<u8>>) {
        if self.open.capacity() - self.open.len() >= WIDTH {
            self.open.extend_from_slice(&value);
        } else {
            self.turn(WIDTH, spare);
            self.open.extend_from_slice(&value);
        }
    }

    /// Adds the lowest bytes of a number: 1, 2, 4 or 8.
    #[inline]
    pub fn push_number(&mut self, value: u64, width: u8, spare: &mut Vec<Vec<u8>>) {
        match width {
            1 => self.push([value as u8], spare),
            2 => self.push((value as u16).to_le_bytes(), spare),
            4 => self.push((value as u32).to_le_bytes(), spare),
            _ => self.push(value.to_le_bytes(), spare),
        }
    }

    /// Adds a text: its length and its bytes. Returns how many these are.
    #[inline]
    pub fn push_text(&mut self, value: &[u8], spare: &mut Vec<Vec<u8>>) -> usize {
        let most = value.len() + MOST_AROUND;
        if self.open.capacity() - self.open.len() < most {
            self.turn(most, spare);
        }
        let before = self.open.len();
        short::push_text(&mut self.open, value);
        self.open.len() - before
    }

    /// Adds a byte, if there is room for it in the page that is open.
    #[inline]
    pub fn push_byte(&mut self, value: u8) -> bool {
        let has_room = self.open.len() < self.open.capacity();
        if has_room {
            self.open.push(value);
        }
        has_room
    }

    #[cold]
    #[inline(never)]
    fn turn(&mut self, length: usize, spare: &mut Vec<Vec<u8>>) {
        let own_size = (FIRST_PAGE << self.full.len().min(16)).min(LARGEST_PAGE).max(length);
        let page = spare.pop().filter(|page| page.capacity() >= length).unwrap_or_else(|| Vec::with_capacity(own_size));
        let before = std::mem::replace(&mut self.open, page);
        if !before.is_empty() {
            self.full.push(before);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.full.iter().chain([&self.open]).map(Vec::as_slice)
    }

    pub fn bytes(&self) -> usize {
        self.iter().map(<[u8]>::len).sum()
    }

    pub fn into_vec(self) -> Vec<Vec<u8>> {
        let mut pages = self.full;
        if !self.open.is_empty() {
            pages.push(self.open);
        }
        pages
    }
}

/// Bytes of the text at the front, its length included.
pub(super) fn text_length(bytes: &[u8]) -> usize {
    let head = bytes.iter().position(|byte| *byte < 0x80).map_or(0, |last| last + 1);
    let shifts = (0..).step_by(7);
    let length: usize = bytes.iter().take(head).zip(shifts).map(|(byte, shift)| usize::from(byte & 0x7f) << shift).sum();
    head + length
}
