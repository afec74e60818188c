//! GS1 Digital Links: what a code says about its item when it is one.
//!
//! `http(s)://host/any/path/01/GTIN[/22/variant][/10/batch][/21/serial][/235/extension][?query][#fragment]`, the GTIN with 8,
//! 12, 13 or 14 digits, values percent-decoded. Anything else is an opaque code and says nothing. The check digit is not
//! judged here: a wrong one shows in the code's risk. A value that no GS1 key can have (not UTF-8 once decoded, or over
//! [`MOST_VALUE_BYTES`], the limit that a batch sent as such would have to keep) is left empty, and of a repeated key the
//! first value counts.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2};
use percent_encoding::percent_decode_str;

use crate::model::Text;

/// Longest batch or serial that is read, in bytes; GS1 allows 20 characters.
pub(super) const MOST_VALUE_BYTES: usize = 256;

/// What a Digital Link says. Empty = nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DigitalLink<'a> {
    /// Fourteen digits.
    pub gtin: Text<'a>,
    /// AI 10.
    pub batch: Text<'a>,
    /// AI 21.
    pub serial: Text<'a>,
}

impl DigitalLink<'_> {
    /// The same without a borrow.
    pub fn into_owned(self) -> DigitalLink<'static> {
        let own = |text: Text<'_>| Cow::Owned(text.into_owned());
        DigitalLink { gtin: own(self.gtin), batch: own(self.batch), serial: own(self.serial) }
    }
}

/// Reads a code; the default when it is no Digital Link.
pub(super) fn read(code: &str) -> DigitalLink<'_> {
    let Some(path) = path(code) else { return DigitalLink::default() };
    let mut slashes = memchr_iter(b'/', path.as_bytes());
    slashes.find_map(|slash| read_keys(path.get(slash..)?.strip_prefix("/01/")?)).unwrap_or_default()
}

/// The path of an http or https URI, from its first slash, without query and fragment.
fn path(code: &str) -> Option<&str> {
    let behind = |scheme: &str| {
        let (head, rest) = code.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let rest = behind("https://").or_else(|| behind("http://"))?;
    let end = memchr2(b'?', b'#', rest.as_bytes()).unwrap_or(rest.len());
    let before_query = rest.get(..end)?;
    let slash = memchr(b'/', before_query.as_bytes()).filter(|slash| *slash > 0)?;
    before_query.get(slash..)
}

/// The segments of a path.
struct Segments<'a>(Option<&'a str>);

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0?;
        let Some(end) = memchr(b'/', text.as_bytes()) else { return self.0.take() };
        self.0 = text.get(end + 1..);
        text.get(..end)
    }
}

/// Everything behind `/01/`: a GTIN, then pairs to the end of the path.
fn read_keys(text: &str) -> Option<DigitalLink<'_>> {
    let mut segments = Segments(Some(text.strip_suffix('/').unwrap_or(text)));
    let mut link = DigitalLink { gtin: gtin(segments.next()?)?, ..DigitalLink::default() };
    while let Some(key) = segments.next() {
        let value = segments.next()?;
        let slot = match key {
            "10" => &mut link.batch,
            "21" => &mut link.serial,
            "22" | "235" => continue,
            _ => return None,
        };
        if slot.is_empty() {
            *slot = decoded(value);
        }
    }
    Some(link)
}

fn gtin(digits: &str) -> Option<Text<'_>> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match digits.len() {
        14 => Some(Cow::Borrowed(digits)),
        8 | 12 | 13 => Some(Cow::Owned(format!("{digits:0>14}"))),
        _ => None,
    }
}

fn decoded(value: &str) -> Text<'_> {
    let is_plain = memchr(b'%', value.as_bytes()).is_none();
    let text = if is_plain { Cow::Borrowed(value) } else { percent_decode_str(value).decode_utf8().unwrap_or_default() };
    if text.len() > MOST_VALUE_BYTES { Cow::Borrowed("") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(gtin: &'static str, batch: &'static str, serial: &'static str) -> DigitalLink<'static> {
        DigitalLink { gtin: gtin.into(), batch: batch.into(), serial: serial.into() }
    }

    #[test]
    fn links_are_read() {
        for (code, expected) in [
            ("https://id.gs1.org/01/09506000134352", link("09506000134352", "", "")),
            ("http://a/01/9506000134352/", link("09506000134352", "", "")),
            ("HTTPS://QR.ACME.CN/01/950600013435", link("00950600013435", "", "")),
            ("https://a.cn:8443/01/96385074?x=/01/1", link("00000096385074", "", "")),
            ("https://acme.cn/m/01/x/01/09506000134352/10/B%2F1/21/S%20%E9%85%92#f", link("09506000134352", "B/1", "S 酒")),
            ("https://a/01/09506000134352/22/2A/10/L1/21/77/235/xyz?17=261231", link("09506000134352", "L1", "77")),
            ("https://a/01/09506000134352/21/1/21/2", link("09506000134352", "", "1")),
            ("https://a/01/09506000134352/10//21/1", link("09506000134352", "", "1")),
            ("https://a/01/09506000134352/10/%ff%fe/21/100%", link("09506000134352", "", "100%")),
            ("https://a/01/09506000134353", link("09506000134353", "", "")),
            ("https://a/01/01/01/09506000134352", link("09506000134352", "", "")),
            ("https://a/01/01/09506000134352", link("09506000134352", "", "")),
        ] {
            assert_eq!(read(code), expected, "{code}");
        }
    }

    #[test]
    fn other_codes_say_nothing() {
        for code in [
            "",
            "abc",
            "https://",
            "https:///01/09506000134352",
            "ftp://a/01/09506000134352",
            "https://a/1/09506000134352",
            "a/01/09506000134352",
            "https://a/01/095060001343521",
            "https://a/01/0950600013435x",
            "https://a/01/09506000134352/99/x",
            "https://a/01/09506000134352/10",
            "https://a?/01/09506000134352",
            "https://a/01/",
            "https://a/01",
            "https://a/x01/09506000134352",
        ] {
            assert_eq!(read(code), DigitalLink::default(), "{code}");
        }
    }

    #[test]
    fn a_value_over_the_limit_is_left_empty() {
        let fits = "b".repeat(MOST_VALUE_BYTES);
        assert_eq!(read(&format!("https://a/01/09506000134352/10/{fits}")).batch, fits);
        assert_eq!(read(&format!("https://a/01/09506000134352/10/{fits}b/21/s")), link("09506000134352", "", "s"));
    }
}
