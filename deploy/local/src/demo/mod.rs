//! `./deploy/demo`: the whole way from events to tables on this machine, before somebody's eyes.
//!
//! Starts the servers, creates tables and topics, runs the pipeline, sends events, shows what happens, and in the end lets
//! `onecode audit` judge. Promises: nothing that it started is left behind, however it ends; nothing is left on disk unless it was
//! asked for, or something went wrong that a log may explain.

mod figures;
mod interrupt;
mod report;
mod screen;
mod stack;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use self::interrupt::{INTERRUPTED_EXIT_CODE, Interrupt, Interrupted};
use self::screen::Screen;
use self::stack::{PARTITIONS, Stack};
use crate::server::last_lines;
use crate::supervise::Supervised;

const CUSTOMERS: &str = "20000";
const SETTLE_DEADLINE: Duration = Duration::from_secs(300);
/// Looks in a row that must find everything settled: workers publish their figures some moments later.
const SETTLED_LOOKS: u32 = 3;

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// How long events flow
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// Events a second
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Kill the pipeline (kill -9) in the middle: nothing changes
    #[arg(long)]
    pub kill: bool,
    /// Keep topics, tables, configuration and logs, and say where
    #[arg(long)]
    pub keep_data: bool,
    /// The program to show [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub onecode: Option<PathBuf>,
}

/// Shows it all. The exit code is 0 only when the audit found no difference.
pub fn run(arguments: &DemoArgs) -> ExitCode {
    match try_run(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("demo: interrupted; everything is stopped");
            ExitCode::from(INTERRUPTED_EXIT_CODE)
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(arguments: &DemoArgs) -> Result<bool> {
    let interrupt = Interrupt::listen()?;
    let onecode = onecode_program(arguments)?;
    let mut dir = tempfile::Builder::new().prefix("onecode-demo-").tempdir().context("cannot create a directory for the demo")?;
    let outcome = Demo { arguments, onecode: &onecode, interrupt: &interrupt, dir: dir.path() }.run();
    if arguments.keep_data {
        dir.disable_cleanup(true);
        println!("Topics, tables, configuration and logs are kept in {}", dir.path().display());
    } else if matches!(&outcome, Err(error) if !error.is::<Interrupted>()) || matches!(outcome, Ok(false)) {
        dir.disable_cleanup(true);
        eprintln!("demo: the logs are in {}", dir.path().display());
    }
    outcome
}

/// The program beside this one, which is where cargo puts both.
fn onecode_program(arguments: &DemoArgs) -> Result<PathBuf> {
    if let Some(program) = &arguments.onecode {
        return Ok(program.clone());
    }
    let beside = std::env::current_exe().context("cannot tell where this program is")?.with_file_name("onecode");
    ensure!(beside.is_file(), "{} is missing: build the whole workspace, or say --onecode FILE", beside.display());
    Ok(beside)
}

struct Demo<'a> {
    arguments: &'a DemoArgs,
    onecode: &'a Path,
    interrupt: &'a Interrupt,
    dir: &'a Path,
}

impl Demo<'_> {
    fn run(&self) -> Result<bool> {
        let mut screen = Screen::new();
        screen.line("Starting Kafka and ClickHouse ...")?;
        let mut stack = Stack::start(self.dir, self.onecode, self.arguments.keep_data)?;
        self.interrupt.check()?;
        let (kafka, clickhouse) = (stack.kafka.bootstrap(), stack.clickhouse.url());
        screen.line(&format!("Kafka {kafka}, ClickHouse {clickhouse}, the pipeline {}", stack.http_url()))?;

        screen.heading("onecode migrate: tables, views and topics")?;
        let migrate = ["migrate", "--create-input-topics", &PARTITIONS.to_string()];
        ensure!(stack.run(&migrate, self.interrupt)?, "`onecode migrate` failed");
        stack.start_pipeline()?;
        stack.wait_ready(self.interrupt)?;

        let sent = self.let_events_flow(&mut stack, &mut screen)?;
        self.wait_until_settled(&mut stack, &mut screen, sent)?;

        screen.heading("onecode audit: every table again from the archive of events, compared row by row")?;
        let is_exact = stack.run(&["audit"], self.interrupt)?;
        screen.line(if is_exact { "The audit found no difference." } else { "The audit found differences: see above." })?;
        report::show(&stack, self.interrupt, &mut screen)?;
        report::show_next_steps(&stack, self.onecode, &mut screen)?;
        if screen.is_terminal() {
            screen.line("\nEverything stays up until Ctrl-C.")?;
            self.stay_up(&mut stack)?;
            screen.line("\nStopping ...")?;
        }
        if self.arguments.keep_data {
            let program = std::env::current_exe().context("cannot tell where this program is")?;
            screen.line(&format!(
                "\nThe servers again on the same data: {} up --dir {} {}",
                program.display(),
                self.dir.display(),
                stack.ports()
            ))?;
        }
        stack.stop()?;
        Ok(is_exact)
    }

    /// Sends events and shows figures until all are sent; returns how many.
    fn let_events_flow(&self, stack: &mut Stack, screen: &mut Screen) -> Result<u64> {
        let DemoArgs { seconds, rate, .. } = self.arguments;
        screen.heading(&format!("onecode generate: {rate} events a second for {seconds} s, some twice, late, misrouted or malformed"))?;
        let (rate_text, seconds_text) = (rate.to_string(), seconds.to_string());
        let arguments = ["generate", "--format", "mixed", "--customers", CUSTOMERS, "--rate", &rate_text, "--seconds", &seconds_text];
        let mut generator = stack.spawn("onecode-generate", &arguments)?;
        screen.start_clock();
        let kill_after = Duration::from_secs(u64::from(*seconds)) / 2;
        let mut is_kill_due = self.arguments.kill;
        loop {
            self.interrupt.wait(screen.interval())?;
            stack.check_pipeline()?;
            screen.show(&figures::look(stack)?)?;
            let is_over = has_finished(&mut generator)?;
            if is_kill_due && (is_over || screen.elapsed() >= kill_after) {
                is_kill_due = false;
                screen.line("kill -9 of the pipeline, and a new start: its counters begin anew, the tables do not")?;
                stack.kill_pipeline()?;
            }
            if is_over {
                return Ok(u64::from(*rate) * u64::from(*seconds));
            }
        }
    }

    /// Waits until every record is applied, served and checkpointed.
    fn wait_until_settled(&self, stack: &mut Stack, screen: &mut Screen, sent: u64) -> Result<()> {
        screen.line("All events are sent; waiting until the tables have them all ...")?;
        let deadline = screen.elapsed() + SETTLE_DEADLINE;
        let mut settled = 0;
        while settled < SETTLED_LOOKS {
            self.interrupt.wait(screen.interval())?;
            stack.check_pipeline()?;
            let figures = figures::look(stack)?;
            settled = if figures.process.as_ref().is_some_and(|process| process.is_settled(sent)) { settled + 1 } else { 0 };
            screen.show(&figures)?;
            if screen.elapsed() > deadline {
                bail!("the pipeline did not catch up within {SETTLE_DEADLINE:?}: {:?}", figures.process);
            }
        }
        Ok(())
    }

    fn stay_up(&self, stack: &mut Stack) -> Result<()> {
        while self.interrupt.wait(Duration::from_secs(1)).is_ok() {
            stack.check_pipeline()?;
        }
        Ok(())
    }
}

fn has_finished(generator: &mut Supervised) -> Result<bool> {
    match generator.exit_code()? {
        None => Ok(false),
        Some(0) => Ok(true),
        Some(code) => bail!("`onecode generate` ended with exit code {code}:\n{}", last_lines(generator.log())),
    }
}
