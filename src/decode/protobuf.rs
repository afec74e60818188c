//! Reads the protobuf messages field by field, borrowing their text.
//!
//! Agrees with prost's generated types on every input (`tests/agreement.rs` holds it to that): the last occurrence of a scalar
//! wins, occurrences of `via` merge, unknown fields and groups are skipped, a known field of the wrong wire type is an error.
//! Hand-written because the generated types own their text, and this is the hot path.

use std::borrow::Cow;

use super::wire::{WireBody, WireEnum, WireEvent, WirePurchase, WireScan, WireShare, WireTime, WireVia};
use crate::model::{EventKind, Line, Text};

/// How deep groups may nest, as in prost.
const RECURSION_LIMIT: u32 = 100;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtobufError {
    #[error("a varint is cut off or longer than 64 bits")]
    Varint,
    #[error("a field's tag is not valid")]
    Tag,
    #[error("field {0} has another wire type than its schema says")]
    WireType(u32),
    #[error("a length points past the end")]
    Length,
    #[error("field {0} is not UTF-8")]
    Utf8(u32),
    #[error("a group ends that did not begin")]
    EndOfGroup,
    #[error("groups nest deeper than {RECURSION_LIMIT}")]
    Depth,
}

/// Reads a message of a kind.
pub(super) fn read(kind: EventKind, bytes: &[u8]) -> Result<WireEvent<'_>, ProtobufError> {
    let mut event = WireEvent { body: WireBody::empty(kind), ..WireEvent::default() };
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field.number {
            1 => event.event_id = reader.text(field)?,
            2 => event.brand = reader.text(field)?,
            3 => event.customer_id = reader.text(field)?,
            4 => event.time = WireTime::Millis(reader.integer(field)? as i64),
            5 => merge_via(&mut event.via, reader.message(field)?)?,
            _ => match &mut event.body {
                WireBody::Scan(scan) => read_scan_field(scan, &mut reader, field)?,
                WireBody::Purchase(purchase) => read_purchase_field(purchase, &mut reader, field)?,
                WireBody::Share(share) => read_share_field(share, &mut reader, field)?,
            },
        }
    }
    Ok(event)
}

fn merge_via<'a>(via: &mut WireVia<'a>, mut reader: Reader<'a>) -> Result<(), ProtobufError> {
    while let Some(field) = reader.field()? {
        match field.number {
            1 => via.share_id = reader.text(field)?,
            2 => via.sharer_id = reader.text(field)?,
            _ => reader.skip(field)?,
        }
    }
    Ok(())
}

fn read_scan_field<'a>(scan: &mut WireScan<'a>, reader: &mut Reader<'a>, field: Field) -> Result<(), ProtobufError> {
    match field.number {
        6 => scan.code = reader.text(field)?,
        7 => scan.sku = reader.text(field)?,
        8 => scan.batch = reader.text(field)?,
        9 => scan.campaign = reader.text(field)?,
        10 => scan.region = reader.integer(field)? as u32,
        11 => scan.channel = reader.text(field)?,
        12 => scan.device = reader.text(field)?,
        13 => scan.purpose = WireEnum::Number(reader.integer(field)? as i32),
        14 => scan.role = WireEnum::Number(reader.integer(field)? as i32),
        _ => reader.skip(field)?,
    }
    Ok(())
}

fn read_purchase_field<'a>(purchase: &mut WirePurchase<'a>, reader: &mut Reader<'a>, field: Field) -> Result<(), ProtobufError> {
    match field.number {
        6 => purchase.order_id = reader.text(field)?,
        7 => purchase.kind = WireEnum::Number(reader.integer(field)? as i32),
        8 => purchase.amount = reader.integer(field)? as i64,
        9 => purchase.currency = reader.text(field)?,
        10 => purchase.lines.push(read_line(reader.message(field)?)?),
        11 => purchase.campaign = reader.text(field)?,
        12 => purchase.region = reader.integer(field)? as u32,
        13 => purchase.channel = reader.text(field)?,
        14 => purchase.store = reader.text(field)?,
        _ => reader.skip(field)?,
    }
    Ok(())
}

fn read_line(mut reader: Reader<'_>) -> Result<Line<'_>, ProtobufError> {
    let mut line = Line { sku: Text::default(), quantity: 0, amount: 0 };
    while let Some(field) = reader.field()? {
        match field.number {
            1 => line.sku = reader.text(field)?,
            2 => line.quantity = reader.integer(field)? as u32,
            3 => line.amount = reader.integer(field)? as i64,
            _ => reader.skip(field)?,
        }
    }
    Ok(line)
}

fn read_share_field<'a>(share: &mut WireShare<'a>, reader: &mut Reader<'a>, field: Field) -> Result<(), ProtobufError> {
    match field.number {
        6 => share.share_id = reader.text(field)?,
        7 => share.campaign = reader.text(field)?,
        8 => share.sku = reader.text(field)?,
        9 => share.region = reader.integer(field)? as u32,
        10 => share.channel = reader.text(field)?,
        11 => share.rewarded = reader.integer(field)? != 0,
        _ => reader.skip(field)?,
    }
    Ok(())
}

/// A field's number and wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub number: u32,
    wire_type: WireType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WireType {
    Varint,
    Fixed64,
    Delimited,
    StartGroup,
    EndGroup,
    Fixed32,
}

/// A cursor over one message.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// How many groups may still nest here.
    depth_left: u32,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes, depth_left: RECURSION_LIMIT }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// A base-128 varint; bits above the 64th are an error, leading zero groups are not.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, ProtobufError> {
        if let [byte, rest @ ..] = self.rest
            && *byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte, rest @ ..] = self.rest else { return Err(ProtobufError::Varint) };
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                let overflows = shift == 63 && *byte > 1;
                return if overflows { Err(ProtobufError::Varint) } else { Ok(value) };
            }
        }
        Err(ProtobufError::Varint)
    }

    /// The next field, or `None` at the end of the message.
    #[inline]
    pub fn field(&mut self) -> Result<Option<Field>, ProtobufError> {
        if self.rest.is_empty() { Ok(None) } else { self.key().map(Some) }
    }

    #[inline]
    fn key(&mut self) -> Result<Field, ProtobufError> {
        let key = u32::try_from(self.varint()?).map_err(|_| ProtobufError::Tag)?;
        let number = key >> 3;
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Delimited,
            3 => WireType::StartGroup,
            4 => WireType::EndGroup,
            5 => WireType::Fixed32,
            _ => return Err(ProtobufError::Tag),
        };
        if number == 0 { Err(ProtobufError::Tag) } else { Ok(Field { number, wire_type }) }
    }

    #[inline]
    pub fn integer(&mut self, field: Field) -> Result<u64, ProtobufError> {
        if field.wire_type != WireType::Varint {
            return Err(ProtobufError::WireType(field.number));
        }
        self.varint()
    }

    #[inline]
    pub fn text(&mut self, field: Field) -> Result<Text<'a>, ProtobufError> {
        self.str(field).map(Cow::Borrowed)
    }

    #[inline]
    pub fn str(&mut self, field: Field) -> Result<&'a str, ProtobufError> {
        if field.wire_type != WireType::Delimited {
            return Err(ProtobufError::WireType(field.number));
        }
        let bytes = self.delimited()?;
        std::str::from_utf8(bytes).map_err(|_| ProtobufError::Utf8(field.number))
    }

    pub fn message(&mut self, field: Field) -> Result<Reader<'a>, ProtobufError> {
        if field.wire_type != WireType::Delimited {
            return Err(ProtobufError::WireType(field.number));
        }
        Ok(Reader { rest: self.delimited()?, depth_left: self.depth_left - 1 })
    }

    #[inline]
    fn delimited(&mut self) -> Result<&'a [u8], ProtobufError> {
        let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Length)?;
        self.bytes(length)
    }

    #[inline]
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::Length)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub fn skip(&mut self, field: Field) -> Result<(), ProtobufError> {
        self.skip_at(field, self.depth_left)
    }

    /// Recursion is bounded by [`RECURSION_LIMIT`].
    fn skip_at(&mut self, field: Field, depth_left: u32) -> Result<(), ProtobufError> {
        let inner_depth_left = depth_left.checked_sub(1).ok_or(ProtobufError::Depth)?;
        match field.wire_type {
            WireType::Varint => self.varint().map(|_| ()),
            WireType::Fixed64 => self.bytes(8).map(|_| ()),
            WireType::Fixed32 => self.bytes(4).map(|_| ()),
            WireType::Delimited => self.delimited().map(|_| ()),
            WireType::EndGroup => Err(ProtobufError::EndOfGroup),
            WireType::StartGroup => loop {
                let inner = self.key()?;
                if inner.wire_type != WireType::EndGroup {
                    self.skip_at(inner, inner_depth_left)?;
                    continue;
                }
                return if inner.number == field.number { Ok(()) } else { Err(ProtobufError::EndOfGroup) };
            },
        }
    }
}
