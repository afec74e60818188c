//! Figures for a person: in place on a terminal, a line each otherwise. Owns the wording; decides nothing.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use super::figures::{Figures, ProcessFigures};

const WIDEST: usize = 160;
/// Over which the shown speed is an average.
const SPEED_WINDOW: Duration = Duration::from_secs(5);

/// Where figures are shown.
pub(super) struct Screen {
    is_terminal: bool,
    has_colour: bool,
    began: Instant,
    /// Lines of the last block, which the next one replaces.
    drawn: usize,
    /// When how many events were in, newest last.
    seen: Vec<(Instant, u64)>,
}

impl Screen {
    pub fn new() -> Screen {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let is_terminal = io::stdout().is_terminal() && variable("TERM").is_some_and(|term| term != "dumb");
        let has_colour = is_terminal && variable("NO_COLOR").is_none();
        Screen { is_terminal, has_colour, began: Instant::now(), drawn: 0, seen: Vec::new() }
    }

    /// Whether somebody watches: figures come in place and the stack stays up.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Time between two looks.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(if self.is_terminal { 1 } else { 2 })
    }

    /// Counts the shown seconds from now on.
    pub fn start_clock(&mut self) {
        self.began = Instant::now();
    }

    /// Time on the clock.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// A heading of a part.
    pub fn heading(&mut self, text: &str) -> io::Result<()> {
        let text = if self.has_colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
        self.line(&format!("\n{text}"))
    }

    /// A line that stays; what was drawn in place before stays above it.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.drawn = 0;
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// Shows a look at the figures.
    pub fn show(&mut self, figures: &Figures) -> io::Result<()> {
        let now = Instant::now();
        if let Some(process) = &figures.process {
            self.seen.push((now, process.events));
        }
        self.seen.retain(|(at, _)| now.duration_since(*at) <= SPEED_WINDOW);
        let seconds = self.elapsed().as_secs();
        if !self.is_terminal {
            return self.line(&plain_line(seconds, figures, self.speed()));
        }
        let width = columns().unwrap_or(WIDEST).saturating_sub(1);
        let mut text = String::new();
        if self.drawn > 0 {
            // Up to the block's first line, and clear from there.
            text = format!("\x1b[{}A\x1b[J", self.drawn);
        }
        let lines = block(seconds, figures, self.speed());
        for line in &lines {
            // A line that the terminal wraps would be two to go back over.
            text.extend(line.chars().take(width));
            text.push('\n');
        }
        self.drawn = lines.len();
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn speed(&self) -> u64 {
        let (Some((first_at, first)), Some((last_at, last))) = (self.seen.first(), self.seen.last()) else { return 0 };
        let seconds = last_at.duration_since(*first_at).as_secs_f64();
        if seconds > 0.0 { (last.saturating_sub(*first) as f64 / seconds).round() as u64 } else { 0 }
    }
}

fn columns() -> Option<usize> {
    rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col.into()).filter(|columns| *columns > 0)
}

fn plain_line(seconds: u64, figures: &Figures, speed: u64) -> String {
    let tables = &figures.tables;
    let mut line = format!("{seconds:>4} s  ");
    match &figures.process {
        Some(process) => line.push_str(&flow(process, speed)),
        None => line.push_str("the pipeline is starting"),
    }
    let (paid, refunded) = (money(tables.paid_today), money(tables.refunded_today));
    line.push_str(&format!(
        "; customers {}, new today {}; today: scans {}, orders {}, paid {paid}, refunded {refunded}",
        grouped(tables.customers),
        grouped(tables.new_today),
        grouped(tables.scans_today),
        grouped(tables.orders_today),
    ));
    if let Some(process) = &figures.process {
        line.push_str(&format!("; {}", care(process)));
        if !process.dead_letters.is_empty() {
            line.push_str(&format!(" ({})", reasons(process)));
        }
    }
    line
}

fn block(seconds: u64, figures: &Figures, speed: u64) -> Vec<String> {
    let tables = &figures.tables;
    let mut lines = Vec::new();
    match &figures.process {
        Some(process) => lines.push(format!("  {seconds:>4} s      {}", flow(process, speed))),
        None => lines.push(format!("  {seconds:>4} s      the pipeline is starting")),
    }
    lines.push(format!("  customers   {:>12}   new today {}", grouped(tables.customers), grouped(tables.new_today)));
    lines.push(format!("  scans today {:>12}   orders {}", grouped(tables.scans_today), grouped(tables.orders_today)));
    lines.push(format!("  paid today  {:>12}   refunded {}", money(tables.paid_today), money(tables.refunded_today)));
    // As many lines whether there is something to say or not, so that the block does not jump.
    lines.push(figures.process.as_ref().map_or_else(String::new, |process| format!("  {}", care(process))));
    lines.push(figures.process.as_ref().map_or_else(String::new, |process| format!("  {}", reasons(process))));
    lines
}

fn flow(process: &ProcessFigures, speed: u64) -> String {
    format!("events in {}, {} a second, lag {}", grouped(process.events), grouped(speed), grouped(process.lag))
}

fn care(process: &ProcessFigures) -> String {
    let letters = process.dead_letters.values().sum();
    let [duplicates, relayed, letters] = [process.duplicates, process.relayed, letters].map(grouped);
    format!("duplicates {duplicates}, relayed {relayed}, dead letters {letters}")
}

fn reasons(process: &ProcessFigures) -> String {
    let reasons: Vec<String> = process.dead_letters.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    reasons.join(", ")
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Minor units as an amount: currencies of the demo have two digits.
fn money(minor: i64) -> String {
    let (sign, amount) = (if minor < 0 { "-" } else { "" }, minor.unsigned_abs());
    format!("{sign}{}.{:02}", grouped(amount / 100), amount % 100)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::demo::figures::TableFigures;

    #[test]
    fn numbers_and_amounts_are_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 5, 123_456, -205].map(money), ["0.00", "0.05", "1,234.56", "-2.05"]);
    }

    #[test]
    fn a_line_and_a_block_say_the_same() {
        let process = ProcessFigures {
            events: 61_000,
            lag: 12,
            duplicates: 3,
            relayed: 4,
            dead_letters: BTreeMap::from([("bad_brand".to_owned(), 2), ("bad_enum".to_owned(), 1)]),
            ..ProcessFigures::default()
        };
        let tables = TableFigures {
            customers: 1_500,
            new_today: 900,
            scans_today: 40_000,
            orders_today: 70,
            paid_today: 99_900,
            refunded_today: 100,
        };
        let figures = Figures { process: Some(process), tables };
        let line = plain_line(12, &figures, 5_000);
        assert_eq!(
            line,
            "  12 s  events in 61,000, 5,000 a second, lag 12; customers 1,500, new today 900; today: scans 40,000, orders 70, \
             paid 999.00, refunded 1.00; duplicates 3, relayed 4, dead letters 3 (bad_brand 2, bad_enum 1)"
        );
        let drawn = block(12, &figures, 5_000).join("\n");
        for part in ["61,000", "lag 12", "1,500", "900", "40,000", "70", "999.00", "1.00", "bad_brand 2, bad_enum 1"] {
            assert!(drawn.contains(part), "{part} is not in\n{drawn}");
        }
        let starting = plain_line(3, &Figures::default(), 0);
        assert!(starting.contains("starting") && !starting.contains("dead letters"), "{starting}");
    }
}
