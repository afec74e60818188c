//! The business calendar: which day and month an instant belongs to, by the brand's time zone.
//!
//! Zones are fixed offsets from UTC, so that a day is the same computation here and in ClickHouse.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

const MS_PER_MINUTE: i64 = 60_000;
const MS_PER_DAY: i64 = 86_400_000;

/// Days since 1970-01-01 in the brand's calendar (ClickHouse `Date`).
pub type Day = u16;
/// First day of a month, as a [`Day`].
pub type Month = u16;

/// A fixed offset from UTC in minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeZone {
    offset_minutes: i32,
}

/// Text that is no offset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time zone; write an offset from UTC such as +08:00, -03:30 or Z")]
pub struct TimeZoneError(pub String);

impl TimeZone {
    /// UTC.
    pub const UTC: TimeZone = TimeZone { offset_minutes: 0 };

    /// Minutes east of UTC.
    pub fn offset_minutes(self) -> i32 {
        self.offset_minutes
    }

    /// The day of an instant (Unix milliseconds). Instants outside 1970..2149 are clamped, as acceptance excludes them.
    pub fn day(self, time_ms: i64) -> Day {
        let local_ms = time_ms.saturating_add(i64::from(self.offset_minutes) * MS_PER_MINUTE);
        local_ms.div_euclid(MS_PER_DAY).clamp(0, i64::from(u16::MAX)) as Day
    }

    /// The first day of the month of a day.
    pub fn month_of(day: Day) -> Month {
        day - (civil_day_of_month(i64::from(day)) - 1)
    }
}

impl FromStr for TimeZone {
    type Err = TimeZoneError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || TimeZoneError(text.to_owned());
        if matches!(text, "Z" | "UTC") {
            return Ok(TimeZone::UTC);
        }
        let (sign, rest) = match text.split_at_checked(1) {
            Some(("+", rest)) => (1, rest),
            Some(("-", rest)) => (-1, rest),
            _ => return Err(error()),
        };
        let (hours, minutes) = rest.split_once(':').ok_or_else(error)?;
        let two_digits = |part: &str, most: i32| {
            (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| part.parse::<i32>().ok())
                .flatten()
                .filter(|number| *number <= most)
                .ok_or_else(error)
        };
        let offset_minutes = sign * (two_digits(hours, 14)? * 60 + two_digits(minutes, 59)?);
        Ok(TimeZone { offset_minutes })
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let minutes = self.offset_minutes.abs();
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// The calendars of all brands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    default: TimeZone,
    brands: BTreeMap<String, TimeZone>,
}

impl Calendar {
    /// A default zone, and the brands that have another.
    pub fn new(default: TimeZone, brands: BTreeMap<String, TimeZone>) -> Self {
        Calendar { default, brands }
    }

    /// The zone of a brand.
    pub fn zone(&self, brand: &str) -> TimeZone {
        self.brands.get(brand).copied().unwrap_or(self.default)
    }

    /// The zone of brands that have none of their own.
    pub fn default_zone(&self) -> TimeZone {
        self.default
    }

    /// Brands with a zone of their own, in order.
    pub fn brands(&self) -> impl Iterator<Item = (&str, TimeZone)> {
        self.brands.iter().map(|(brand, zone)| (brand.as_str(), *zone))
    }
}

/// Day of the month (1-31) of a day count since 1970-01-01: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil_day_of_month(days: i64) -> u16 {
    let shifted = days + 719_468;
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_starts_at_midnight_of_the_zone() {
        let zone: TimeZone = "+08:00".parse().expect("a zone");
        let midnight_in_shanghai_ms = 20_000 * MS_PER_DAY - 8 * 3_600_000;
        assert_eq!(zone.day(midnight_in_shanghai_ms), 20_000);
        assert_eq!(zone.day(midnight_in_shanghai_ms - 1), 19_999);
    }

    #[test]
    fn months_start_on_their_first_day() {
        for (day, month) in [(0, 0), (30, 0), (31, 31), (59, 59), (20_454, 20_454), (20_484, 20_454), (11_016, 10_988)] {
            assert_eq!(TimeZone::month_of(day), month, "{day}");
        }
    }

    #[test]
    fn zones_are_read_and_written_back() {
        for text in ["+08:00", "-03:30", "+00:00"] {
            assert_eq!(text.parse::<TimeZone>().expect(text).to_string(), text);
        }
        for text in ["", "8", "+8:00", "+08:60", "+15:00", "Asia/Shanghai", "+é:00"] {
            assert!(text.parse::<TimeZone>().is_err(), "{text}");
        }
    }
}
