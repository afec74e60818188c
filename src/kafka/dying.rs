//! For tests: the process dies at a boundary between two steps, as abruptly as by SIGKILL.
//!
//! `ONECODE_TEST_DIES_AT=<boundary>` or `<boundary>:<n>`: when a worker crosses it for the first, or the n-th time. Not set, it costs a
//! comparison at each boundary, of which there are some dozens a second.

use crate::worker::Boundary;

/// Name of the variable.
pub const DIES_AT_VARIABLE: &str = "ONECODE_TEST_DIES_AT";

/// Where a worker takes its process with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiesAt {
    boundary: Boundary,
    left: u32,
}

/// The variable names no boundary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{DIES_AT_VARIABLE}={0} names no boundary: it is for tests; unset it")]
pub struct NoBoundary(String);

impl DiesAt {
    /// What the environment asks for; usually nothing.
    pub fn from_env() -> Result<Option<DiesAt>, NoBoundary> {
        std::env::var(DIES_AT_VARIABLE).ok().map(|text| DiesAt::parse(&text).ok_or(NoBoundary(text))).transpose()
    }

    fn parse(text: &str) -> Option<DiesAt> {
        let (name, times) = text.split_once(':').unwrap_or((text, "1"));
        Some(DiesAt { boundary: Boundary::from_name(name)?, left: times.parse().ok().filter(|times| *times > 0)? })
    }

    /// Dies here, if this is it.
    pub fn cross(&mut self, boundary: Boundary) {
        if boundary != self.boundary {
            return;
        }
        self.left -= 1;
        if self.left == 0 {
            tracing::warn!(boundary = boundary.name(), "dies, as a test has asked for");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_read_by_name_and_number() {
        for boundary in Boundary::ALL {
            assert_eq!(DiesAt::parse(boundary.name()), Some(DiesAt { boundary, left: 1 }));
        }
        assert_eq!(DiesAt::parse("cut:3"), Some(DiesAt { boundary: Boundary::Cut, left: 3 }));
        for text in ["", "cut:", "cut:0", "nowhere"] {
            assert_eq!(DiesAt::parse(text), None, "{text}");
        }
    }
}
