//! `onecode dead-letter show`: a record with all that can be told of it.

use std::io::{self, Write};

use prost::Message as _;
use serde_json::{Value, json};

use super::letter::{Letter, Position};
use super::read;
use crate::commands::Verdict;
use crate::commands::table::plain;
use crate::config::Config;
use crate::decode::{CONTENT_TYPE_HEADER, Payload, open_payload};
use crate::model::EventKind;
use crate::pb;

const BYTES_A_LINE: usize = 16;

pub(super) fn run(config: &Config, position: &Position, as_json: bool, out: &mut impl Write) -> anyhow::Result<Verdict> {
    let mut found = Vec::new();
    read::each_letter(config, |letter| {
        if letter.at == *position || letter.origin == *position {
            found.push(letter);
        }
        Ok(())
    })?;
    if found.is_empty() {
        eprintln!("no dead letter in `{}` is or comes from {position}", config.topics.dead_letter);
        return Ok(Verdict::FoundSomething);
    }
    for letter in &found {
        if as_json {
            writeln!(out, "{}", as_object(letter))?;
        } else {
            write(config, letter, out)?;
        }
    }
    Ok(Verdict::Fine)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn as_object(letter: &Letter) -> Value {
    let mut members = letter.json();
    let headers = letter.headers.iter().map(|(name, value)| json!({"name": name, "value": value.as_deref().map(String::from_utf8_lossy)}));
    members.insert("headers".to_owned(), headers.collect());
    members.insert("key_hex".to_owned(), json!(letter.key.as_deref().map(hex)));
    members.insert("value_hex".to_owned(), json!(letter.value.as_deref().map(hex)));
    Value::Object(members)
}

fn write(config: &Config, letter: &Letter, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "origin       {}", plain(&letter.origin.to_string()))?;
    writeln!(out, "dead letter  {} of {}", letter.at, letter.time())?;
    writeln!(out, "reason       {} (found while: {})", plain(&letter.reason), plain(&letter.stage))?;
    writeln!(out, "message      {}", plain(&letter.message))?;
    writeln!(out, "key          {}", text_or_hex(letter.key.as_deref()))?;
    for (name, value) in &letter.headers {
        writeln!(out, "header       {} = {}", plain(name), text_or_hex(value.as_deref()))?;
    }
    let Some(value) = &letter.value else { return writeln!(out, "value        none (a tombstone)\n") };
    writeln!(out, "value        {} bytes", value.len())?;
    if let Some((kind, format)) = config.topics.kind_of(&letter.origin.topic) {
        match readable(kind, format, letter.header(CONTENT_TYPE_HEADER), value) {
            Ok(text) => write!(out, "{text}")?,
            Err(why) => writeln!(out, "             {why}")?,
        }
    }
    write_hex_dump(value, out)?;
    writeln!(out)
}

fn text_or_hex(bytes: Option<&[u8]>) -> String {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => "(none)".to_owned(),
        Some((_, Ok(text))) => plain(text),
        Some((bytes, Err(_))) => format!("0x{}", hex(bytes)),
    }
}

/// The value as far as its format can be read, whatever the rules say about it.
fn readable(kind: EventKind, format: crate::decode::Format, content_type: Option<&[u8]>, value: &[u8]) -> Result<String, String> {
    match open_payload(value, format, content_type)? {
        Payload::Json(bytes) => {
            let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}"))?;
            let pretty = serde_json::to_string_pretty(&value).map_err(|error| error.to_string())?;
            Ok(format!("as JSON:\n{}\n", pretty.lines().map(plain).collect::<Vec<_>>().join("\n")))
        }
        Payload::Protobuf(bytes) => {
            let text = match kind {
                EventKind::Scan => pb::Scan::decode(bytes).map(|message| format!("{message:#?}")),
                EventKind::Purchase => pb::Purchase::decode(bytes).map(|message| format!("{message:#?}")),
                EventKind::Share => pb::Share::decode(bytes).map(|message| format!("{message:#?}")),
            };
            text.map(|text| format!("as protobuf:\n{text}\n")).map_err(|error| format!("no protobuf message: {error}"))
        }
    }
}

fn write_hex_dump(bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    for (number, line) in bytes.chunks(BYTES_A_LINE).enumerate() {
        let hex: String = line.iter().map(|byte| format!("{byte:02x} ")).collect();
        let text: String = line.iter().map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' }).collect();
        writeln!(out, "{:08x}  {hex:48} {text}", number * BYTES_A_LINE)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Format;

    #[test]
    fn bytes_are_dumped_with_their_text() {
        let mut out = Vec::new();
        write_hex_dump(b"onecode\x00\xff and more", &mut out).expect("written");
        let expected = "00000000  6f 6e 65 63 6f 64 65 00 ff 20 61 6e 64 20 6d 6f  onecode.. and mo\n\
                        00000010  72 65                                            re\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn a_value_is_shown_as_far_as_it_can_be_read() {
        let share = pb::Share { share_id: "s1".to_owned(), ..pb::Share::default() };
        let text = readable(EventKind::Share, Format::Auto, None, &share.encode_to_vec()).expect("readable");
        assert!(text.starts_with("as protobuf:\nShare {") && text.contains("share_id: \"s1\""), "{text}");
        let text = readable(EventKind::Share, Format::Auto, None, b"\0\0\0\0\x01{\"a\":[\"\\u001b\"]}").expect("readable");
        assert!(text.starts_with("as JSON:\n{\n") && !text.contains('\u{1b}'), "{text}");
        assert!(readable(EventKind::Share, Format::Auto, None, b"{").expect_err("cut off").starts_with("not JSON"));
        assert!(readable(EventKind::Share, Format::Protobuf, None, b"{").expect_err("wrong").starts_with("no protobuf message"));
        assert!(readable(EventKind::Share, Format::Auto, None, b"\0").expect_err("cut off").contains("framing"));
    }
}
