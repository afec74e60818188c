//! Exact integers from JSON numbers: 1.0 and 1e3 are integers, 1.5 is not, and no digit is lost on the way.

/// The integer that a text in JSON's number grammar stands for, if it stands for one that fits.
///
/// Never goes through floating point: 9007199254740993.0 is 9007199254740993.
pub(super) fn integer(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
        Some(_) => return None,
        None => (mantissa, ""),
    };
    let has_leading_zero = whole.len() > 1 && whole.starts_with('0');
    if !is_digits(whole) || has_leading_zero {
        return None;
    }
    let exponent = exponent.map_or(Some(0), exponent_of)?;
    let magnitude = scaled(whole, fraction, exponent)?;
    Some(if negative { -magnitude } else { magnitude })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An exponent, saturated: whatever is beyond has the same outcome, as a record's value is far shorter than that many digits.
fn exponent_of(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !is_digits(digits) {
        return None;
    }
    let magnitude = digits.bytes().fold(0_i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Some(if negative { -magnitude } else { magnitude })
}

/// `whole.fraction × 10^exponent`, if it is an integer of at most 20 digits.
fn scaled(whole: &str, fraction: &str, exponent: i64) -> Option<i128> {
    const MOST_DIGITS: i64 = 20;
    let digits = || whole.bytes().chain(fraction.bytes());
    // Positions counted from the first digit: the first and the last that is not zero, and the decimal point once it is moved.
    let Some(first) = digits().position(|digit| digit != b'0') else { return Some(0) };
    let trailing_zeros = digits().rev().take_while(|digit| *digit == b'0').count();
    let last = whole.len() + fraction.len() - trailing_zeros - 1;
    let point = i64::try_from(whole.len()).ok()?.saturating_add(exponent);
    let is_integer = i64::try_from(last).ok()? < point;
    if !is_integer || point.saturating_sub(i64::try_from(first).ok()?) > MOST_DIGITS {
        return None;
    }
    let value = digits().take(last + 1).fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    let zeros_to_add = u32::try_from(point - i64::try_from(last).ok()? - 1).ok()?;
    Some(value * 10_i128.pow(zeros_to_add))
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn integers_in_any_spelling_are_exact() {
        for (text, number) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0e-5", 0),
            ("0e999999999999999999999", 0),
            ("1.0", 1),
            ("1e3", 1000),
            ("1E+3", 1000),
            ("1.50e1", 15),
            ("1200e-2", 12),
            ("0.001e3", 1),
            ("100000000000000000000000e-20", 1000),
            ("9007199254740993", 9_007_199_254_740_993),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("9.007199254740993e15", 9_007_199_254_740_993),
            ("1e18", 1_000_000_000_000_000_000),
            ("-9223372036854775808", -9_223_372_036_854_775_808),
            ("18446744073709551615", 18_446_744_073_709_551_615),
        ] {
            assert_eq!(integer(text), Some(number), "{text}");
        }
    }

    #[test]
    fn everything_else_is_none() {
        for text in [
            "",
            "-",
            "+1",
            " 1",
            "1 ",
            "01",
            "1.",
            ".5",
            "1.5",
            "1e",
            "1e+",
            "1e-1",
            "15e-1",
            "0x10",
            "1_000",
            "NaN",
            "Infinity",
            "--1",
            "1e1e1",
            "1.2.3",
            "1e21",
            "1e9223372036854775807",
            "1e-9223372036854775808",
            "100000000000000000000000",
            "१",
        ] {
            assert_eq!(integer(text), None, "{text}");
        }
    }
}
