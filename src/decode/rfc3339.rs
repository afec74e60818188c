//! Instants as RFC 3339 text: read to the millisecond, and written for messages.

use jiff::civil::Date;

/// Unix milliseconds of an RFC 3339 date-time, cut (not rounded) to the millisecond; `None` when the text is none.
///
/// As the RFC has it: an offset is required, `T` and `Z` may be lower case, the fraction may have any number of digits. A leap
/// second counts as the second before it.
pub(super) fn read(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let (clock, rest) = rest.strip_prefix(['T', 't'])?.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (millisecond, offset) = match rest.strip_prefix('.') {
        Some(after_point) => fraction(after_point)?,
        None => (0, rest),
    };
    let civil = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let days = i64::from((civil - Date::constant(1970, 1, 1)).get_days());
    let minutes = days * 1_440 + hour * 60 + minute - offset_minutes(offset)?;
    Some((minutes * 60 + second.min(59)) * 1_000 + millisecond)
}

/// An instant for a message: RFC 3339 where the calendar reaches, else the number.
pub(super) fn written(time_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(time_ms) {
        Ok(timestamp) => timestamp.to_string(),
        Err(_) => format!("{time_ms} ms"),
    }
}

/// Numbers of fixed widths with a separator between them.
fn numbers<const COUNT: usize>(text: &str, separator: char, widths: [usize; COUNT]) -> Option<[i64; COUNT]> {
    let mut found = [0; COUNT];
    let mut parts = text.split(separator);
    for (slot, width) in found.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != width || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *slot = part.parse().ok()?;
    }
    if parts.next().is_none() { Some(found) } else { None }
}

/// Milliseconds of the digits after the decimal point, and what follows them.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = text.split_at_checked(end)?;
    if digits.is_empty() {
        return None;
    }
    let millisecond = digits.bytes().chain(*b"000").take(3).fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Some((millisecond, rest))
}

fn offset_minutes(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let [hours, minutes] = numbers(rest, ':', [2, 2])?;
    if hours > 23 || minutes > 59 { None } else { Some(sign * (hours * 60 + minutes)) }
}

#[cfg(test)]
mod tests {
    use super::{read, written};

    #[test]
    fn instants_are_cut_to_the_millisecond() {
        for (text, time_ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00.001z", 1),
            ("1970-01-01T00:00:00.0019999999999999Z", 1),
            ("1970-01-01T08:00:00.5+08:00", 500),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2026-08-01T12:34:56.789+08:00", 1_785_558_896_789),
            ("2026-08-01T12:34:56-00:00", 1_785_587_696_000),
            ("2024-02-29T00:00:00-03:30", 1_709_177_400_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
        ] {
            assert_eq!(read(text), Some(time_ms), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_time_is_none() {
        for text in [
            "",
            "now",
            "2026-08-01",
            "2026-08-01T12:34:56",
            "2026-08-01 12:34:56Z",
            "2026-08-01T12:34Z",
            "2026-08-01T24:00:00Z",
            "2026-08-01T12:60:00Z",
            "2026-08-01T12:00:61Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-08-01T12:34:56.Z",
            "2026-08-01T12:34:56,5Z",
            "2026-08-01T12:34:56+0800",
            "2026-08-01T12:34:56+08",
            "2026-08-01T12:34:56+24:00",
            "2026-08-01T12:34:56+08:60",
            "26-08-01T12:34:56Z",
            "+2026-08-01T12:34:56Z",
            "2026-8-01T12:34:56Z",
            "2026-08-01T12:34:56Z ",
            " 2026-08-01T12:34:56Z",
            "2026-08-01T12:34:56ZZ",
            "2026-08-01T12:34:56.5",
            "2026-08-01T12:34:56[UTC]",
            "２026-08-01T12:34:56Z",
            "1785558896789",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn instants_are_written_as_they_are_read_or_as_numbers_beyond_the_calendar() {
        assert_eq!(read(&written(1_785_558_896_789)), Some(1_785_558_896_789));
        assert_eq!(written(i64::MAX), "9223372036854775807 ms");
    }
}
