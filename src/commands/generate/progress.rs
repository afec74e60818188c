//! Progress on stderr: a bar on a terminal, a plain line now and then otherwise.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const BETWEEN_LINES: Duration = Duration::from_secs(5);
/// The clock is asked once in so many records.
const STRIDE: u64 = 1_024;

/// Shows how far the work is. Without colours, so that `NO_COLOR` has nothing to forbid.
pub(super) struct Progress {
    total: u64,
    began: Instant,
    display: Display,
}

enum Display {
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Progress {
    pub fn start(total: u64) -> Self {
        let began = Instant::now();
        if !stderr().is_terminal() {
            return Progress { total, began, display: Display::Lines { last: began } };
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template = "{bar:40} {human_pos} of {human_len} records  {per_sec}  {eta} left";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { total, began, display: Display::Bar(bar) }
    }

    pub fn sent(&mut self, sent: u64) {
        if !sent.is_multiple_of(STRIDE) && sent != self.total {
            return;
        }
        match &mut self.display {
            Display::Bar(bar) => bar.set_position(sent),
            Display::Lines { last } if last.elapsed() >= BETWEEN_LINES => {
                *last = Instant::now();
                let rate = sent as f64 / self.began.elapsed().as_secs_f64();
                eprintln!("{sent} of {} records, {rate:.0} a second", self.total);
            }
            Display::Lines { .. } => {}
        }
    }

    pub fn finish(&self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}
