//! Writes protobuf messages field by field from borrowed values: the generated types own their text, and cuts and contributions write
//! millions of messages.
//!
//! Promises the bytes of the generated types: fields in ascending order as they are called, zeros and empty texts left out, lists packed.

use crate::short;

/// Appends the fields of one message.
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

const VARINT: u32 = 0;
const DELIMITED: u32 = 2;

impl Writer<'_> {
    fn tag(&mut self, field: u32, wire_type: u32) {
        short::push_number(self.0, u64::from(field << 3 | wire_type));
    }

    /// `uint32`, `uint64`, `bool`.
    pub(super) fn number(&mut self, field: u32, value: impl Into<u64>) -> &mut Self {
        let number = value.into();
        if number != 0 {
            self.tag(field, VARINT);
            short::push_number(self.0, number);
        }
        self
    }

    /// `int64`.
    pub(super) fn signed(&mut self, field: u32, value: i64) -> &mut Self {
        self.number(field, value as u64)
    }

    /// `string`.
    pub(super) fn text(&mut self, field: u32, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    /// `bytes`.
    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Self {
        if !value.is_empty() {
            self.tag(field, DELIMITED);
            short::push_text(self.0, value);
        }
        self
    }

    /// A message that is there, also if it is empty.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Writer<'_>)) -> &mut Self {
        self.tag(field, DELIMITED);
        self.delimited(write)
    }

    /// Numbers, unless there is none.
    pub(super) fn numbers(&mut self, field: u32, values: impl Iterator<Item = u64>) -> &mut Self {
        let mut rest = values.peekable();
        if rest.peek().is_some() {
            self.message(field, |list| rest.for_each(|value| short::push_number(list.0, value)));
        }
        self
    }

    /// `fixed32` or `fixed64`, unless there is none.
    pub(super) fn fixed<const N: usize>(&mut self, field: u32, values: impl ExactSizeIterator<Item = [u8; N]>) -> &mut Self {
        if values.len() > 0 {
            self.tag(field, DELIMITED);
            short::push_number(self.0, (values.len() * N) as u64);
            values.for_each(|value| self.0.extend_from_slice(&value));
        }
        self
    }

    /// A length is written before it is known: in the one byte that nearly all need, or what follows moves.
    fn delimited(&mut self, write: impl FnOnce(&mut Writer<'_>)) -> &mut Self {
        let start = self.0.len();
        self.0.push(0);
        write(&mut Writer(self.0));
        let length = self.0.len() - start - 1;
        if length >= 0x80 {
            let mut head = Vec::with_capacity(5);
            short::push_number(&mut head, length as u64);
            self.0.splice(start..=start, head);
        } else if let Some(head) = self.0.get_mut(start) {
            *head = length as u8;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::pb;

    #[test]
    fn the_bytes_are_those_of_the_generated_types() {
        for (length, sizes) in [(0, 0), (1, 1), (127, 3), (128, 200), (20_000, 40)] {
            let (text, time_ms) = ("x".repeat(length), i64::try_from(length).expect("small") - 1);
            let hashes: Vec<u64> = (0..sizes).map(|index| u64::MAX - index).collect();
            let generated = pb::CustomerState {
                first: Some(pb::FirstEventState {
                    time_ms,
                    event_id: text.clone(),
                    via: Some(pb::Via { share_id: text.clone(), sharer_id: String::new() }),
                    ..pb::FirstEventState::default()
                }),
                ids: Some(pb::RememberedIdsState { hashes: hashes.clone(), minutes: vec![7; hashes.len()], contents: Vec::new() }),
                appeared_ms: -1,
                ..pb::CustomerState::default()
            };
            let mut written = Vec::new();
            Writer(&mut written)
                .message(1, |first| {
                    first.signed(1, time_ms).text(2, &text);
                    first.message(4, |via| {
                        via.text(1, &text);
                    });
                })
                .message(8, |ids| {
                    ids.fixed(1, hashes.iter().map(|hash| hash.to_le_bytes()));
                    ids.fixed(2, hashes.iter().map(|_| 7_u32.to_le_bytes()));
                })
                .signed(10, -1);
            assert_eq!(written, generated.encode_to_vec(), "{length}");
            let layers = pb::Layers { amounts: hashes.clone(), ..pb::Layers::default() };
            let mut list = Vec::new();
            Writer(&mut list).numbers(3, hashes.into_iter());
            assert_eq!(list, layers.encode_to_vec(), "{length}");
        }
    }
}
