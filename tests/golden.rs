//! Wire bytes that were written once, and the events they are accepted as: fails when the decoder reads old records
//! differently.
//!
//! `tests/golden/*.txt` hold cases of `== <kind>: <name>`, the value as lines of `hex`, and the outcome as text. To add a
//! case, write its first two parts, run with `ONECODE_BLESS=1`, and read the outcome before committing it.

use std::fs;
use std::path::{Path, PathBuf};

use onecode::decode::{Format, RawRecord, Rules, decode};
use onecode::model::EventKind;

/// Timestamp of the records: 2026-08-01T00:00:00Z.
const RECORD_TIME_MS: i64 = 1_785_542_400_000;

const FILES: [(&str, Format); 4] = [
    ("protobuf.txt", Format::Protobuf),
    ("protobuf_confluent.txt", Format::Protobuf),
    ("json.txt", Format::Json),
    ("json_confluent.txt", Format::Json),
];

struct Case {
    title: String,
    kind: EventKind,
    value: Vec<u8>,
}

fn path_of(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)
}

fn cases(text: &str) -> Vec<Case> {
    let sections = text.split("\n== ").skip(1);
    sections
        .map(|section| {
            let title = section.lines().next().expect("a title").to_owned();
            let kind_name = title.split(':').next().expect("a kind");
            let kind = EventKind::ALL.into_iter().find(|kind| kind.name() == kind_name).expect("a known kind");
            let hex: String = section.lines().filter_map(|line| line.strip_prefix("hex ")).collect();
            let value = hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex"));
            Case { value: value.collect(), title, kind }
        })
        .collect()
}

fn outcome(kind: EventKind, format: Format, value: &[u8]) -> String {
    let record = RawRecord { value: Some(value), content_type: None, timestamp_ms: RECORD_TIME_MS };
    match decode(kind, format, record, &Rules::default()) {
        Ok(event) => format!("{event:#?}\ncontent {:08x}, id {:016x}", event.content_hash(), event.id_hash()),
        Err(reject) => format!("rejected while {} as {reject}", reject.stage.name()),
    }
}

/// The whole file as it should be.
fn rendered(header: &str, cases: &[Case], format: Format) -> String {
    let mut text = format!("{header}\n");
    for case in cases {
        text.push_str(&format!("\n== {}\n", case.title));
        for line in case.value.chunks(48) {
            let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("hex {hex}\n"));
        }
        text.push_str(&format!("{}\n", outcome(case.kind, format, &case.value)));
    }
    text
}

#[test]
fn old_bytes_are_read_as_ever() {
    for (file, format) in FILES {
        let text = fs::read_to_string(path_of(file)).expect(file);
        let cases = cases(&text);
        assert!(cases.len() >= 7, "{file}");
        let expected = rendered(text.lines().next().expect("a header"), &cases, format);
        if std::env::var_os("ONECODE_BLESS").is_some() {
            fs::write(path_of(file), &expected).expect(file);
        } else {
            assert!(text == expected, "tests/golden/{file} differs from what the decoder reads now:\n{expected}");
        }
    }
}

#[test]
fn auto_reads_the_same_as_the_set_format() {
    for (file, format) in FILES {
        for case in cases(&fs::read_to_string(path_of(file)).expect(file)) {
            assert_eq!(outcome(case.kind, Format::Auto, &case.value), outcome(case.kind, format, &case.value), "{file}: {}", case.title);
        }
    }
}

#[test]
fn both_formats_of_an_event_have_one_content() {
    let events = |file: &str, format| -> Vec<String> {
        let text = fs::read_to_string(path_of(file)).expect(file);
        cases(&text).iter().take(5).map(|case| outcome(case.kind, format, &case.value)).collect()
    };
    let [first, rest @ ..] = FILES.map(|(file, format)| events(file, format));
    for other in rest {
        assert_eq!(first, other);
    }
}

#[test]
fn every_change_of_one_byte_has_an_outcome() {
    for (file, format) in FILES {
        for mut case in cases(&fs::read_to_string(path_of(file)).expect(file)) {
            for place in 0..case.value.len() {
                let original = case.value[place];
                for byte in 0..=u8::MAX {
                    case.value[place] = byte;
                    assert!(!outcome(case.kind, format, &case.value).is_empty());
                }
                case.value[place] = original;
            }
        }
    }
}
