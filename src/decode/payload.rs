//! From a record's value to its payload: strips Confluent framing and decides between the formats.
//!
//! Confluent framing is a zero byte, a schema id of four bytes, and for protobuf the path to the message in its schema
//! (a zigzag varint count, then as many zigzag varints; a lone 0 stands for the first message). The path is skipped, not
//! judged: the topic decides the type. No unframed value begins with a zero byte: protobuf has no field 0.

use super::Format;
use super::protobuf::Reader;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A payload without its framing, and its format.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// One message.
    Protobuf(&'a [u8]),
    /// Text, without its byte-order mark.
    Json(&'a [u8]),
}

/// Opens a value.
///
/// # Errors
/// What is wrong with the framing, or that there is no value.
pub fn open<'a>(value: &'a [u8], format: Format, content_type: Option<&[u8]>) -> Result<Payload<'a>, &'static str> {
    let (framed, body) = match value {
        [] => return Err("value is empty"),
        [0, _, _, _, _, body @ ..] => (true, body),
        [0, ..] => return Err("value ends within its Confluent framing (a zero byte and a schema id of four bytes)"),
        body => (false, body),
    };
    let (marked, text) = match body.strip_prefix(BYTE_ORDER_MARK) {
        Some(text) => (true, text),
        None => (false, body),
    };
    let is_json = match content_type.map_or(format, |said| format.as_said_by(said)) {
        Format::Json => true,
        Format::Protobuf => false,
        // A byte-order mark is no field's tag (its wire type would be 7) and no count of message indexes (it would be negative).
        Format::Auto => marked || body.first() == Some(&b'{'),
    };
    if is_json {
        return Ok(Payload::Json(text));
    }
    if framed { Ok(Payload::Protobuf(skip_message_indexes(body)?)) } else { Ok(Payload::Protobuf(body)) }
}

/// What a content type says about the format; `None` when it names neither.
pub(super) fn says_json(content_type: &[u8]) -> Option<bool> {
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let subtype = media_type.split(|byte| *byte == b'/').next_back().unwrap_or_default();
    match subtype {
        b"json" => Some(true),
        b"protobuf" | b"x-protobuf" | b"vnd.google.protobuf" | b"x-google-protobuf" => Some(false),
        _ if subtype.ends_with(b"+json") => Some(true),
        _ if subtype.ends_with(b"+protobuf") => Some(false),
        _ => None,
    }
}

fn skip_message_indexes(body: &[u8]) -> Result<&[u8], &'static str> {
    const CUT_OFF: &str = "value ends within the message indexes of its Confluent framing";
    let mut reader = Reader::new(body);
    let zigzag_count = reader.varint().map_err(|_| CUT_OFF)?;
    if zigzag_count & 1 == 1 {
        return Err("the Confluent framing has a negative count of message indexes");
    }
    for _ in 0..zigzag_count >> 1 {
        reader.varint().map_err(|_| CUT_OFF)?;
    }
    Ok(reader.rest())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto<'a>(value: &'a [u8], content_type: Option<&str>) -> Result<Payload<'a>, &'static str> {
        open(value, Format::Auto, content_type.map(str::as_bytes))
    }

    #[test]
    fn auto_goes_by_the_first_byte() {
        assert_eq!(auto(b"{}", None), Ok(Payload::Json(b"{}")));
        assert_eq!(auto(b"\xef\xbb\xbf {}", None), Ok(Payload::Json(b" {}")));
        assert_eq!(auto(b"\n\x01a", None), Ok(Payload::Protobuf(b"\n\x01a")));
        assert_eq!(auto(b"\n{}", None), Ok(Payload::Protobuf(b"\n{}")), "white space may be a field's tag");
        assert_eq!(auto(b"[]", None), Ok(Payload::Protobuf(b"[]")));
    }

    #[test]
    fn auto_goes_by_a_known_content_type_first() {
        for text in ["application/json", "Application/JSON; charset=utf-8", " text/json ;a=b", "application/cloudevents+json"] {
            assert_eq!(auto(b"\n {}", Some(text)), Ok(Payload::Json(b"\n {}")), "{text}");
        }
        for text in
            ["application/x-protobuf", "application/protobuf;proto=onecode.v1.Scan", "application/vnd.google.protobuf", "a/b+protobuf"]
        {
            assert_eq!(auto(b"{", Some(text)), Ok(Payload::Protobuf(b"{")), "{text}");
        }
        for text in ["", "application/octet-stream", "application/jsonp", ";", "/"] {
            assert_eq!(auto(b"{}", Some(text)), Ok(Payload::Json(b"{}")), "{text}");
            assert_eq!(auto(b"\n\x00", Some(text)), Ok(Payload::Protobuf(b"\n\x00")), "{text}");
        }
    }

    #[test]
    fn a_set_format_ignores_the_content_type() {
        assert_eq!(open(b"{}", Format::Protobuf, Some(b"application/json")), Ok(Payload::Protobuf(b"{}")));
        assert_eq!(open(b"\n\x00", Format::Json, Some(b"application/protobuf")), Ok(Payload::Json(b"\n\x00")));
    }

    #[test]
    fn framing_is_stripped_in_every_format() {
        for format in [Format::Auto, Format::Json] {
            assert_eq!(open(b"\0\0\0\0\x07{}", format, None), Ok(Payload::Json(b"{}")));
            assert_eq!(open(b"\0\0\0\0\x07\xef\xbb\xbf{}", format, None), Ok(Payload::Json(b"{}")));
        }
        for format in [Format::Auto, Format::Protobuf] {
            assert_eq!(open(b"\0\0\0\0\x07\0\n\x01a", format, None), Ok(Payload::Protobuf(b"\n\x01a")), "the short form of [0]");
            assert_eq!(open(b"\0\0\0\0\x07\x02\0\n\x01a", format, None), Ok(Payload::Protobuf(b"\n\x01a")), "[0] in full");
            assert_eq!(open(b"\0\0\0\0\x07\x04\x02\x80\x01\n\x01a", format, None), Ok(Payload::Protobuf(b"\n\x01a")), "[1, 64]");
            assert_eq!(open(b"\0\0\0\0\x07\0", format, None), Ok(Payload::Protobuf(b"")));
        }
    }

    #[test]
    fn broken_framing_is_an_error() {
        for value in [&b""[..], b"\0", b"\0\0\0\0", b"\0\0\0\0\x07", b"\0\0\0\0\x07\x01", b"\0\0\0\0\x07\x04\x02", b"\0\0\0\0\x07\x80"] {
            assert!(auto(value, None).is_err(), "{value:?}");
        }
        let endless_count = b"\0\0\0\0\x07\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert!(auto(endless_count, None).is_err());
    }
}
