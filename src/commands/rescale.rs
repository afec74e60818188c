//! `onecode rescale`: another number of tasks, while the pipeline is stopped.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};

use super::Verdict;
use crate::config::Config;
use crate::kafka::Cluster;
use crate::migrate::topics;
use crate::rescale::{Marker, Members, Mover, Plan, Source, decide, make_exchange, marker, unread};
use crate::store::Admin;

/// Shown below `--help`.
pub const EXAMPLES: &str =
    "Let the pipeline catch up first, and stop it with SIGTERM: after the move, events of a topic that lags by more than
pipeline.forget_slack_days behind the others may be refused as too old.

Examples:
  onecode rescale --tasks 24 --dry-run --config onecode.toml   # what would be done; the pipeline may run
  onecode rescale --tasks 24 --config onecode.toml             # stop every instance first; then follow its last lines";

const LEAVE_LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the tasks are let read what they have sent each other.
const SETTLE_ATTEMPTS: usize = 3;

/// What `rescale` is asked to do.
#[derive(Clone, Debug, clap::Args)]
pub struct RescaleArgs {
    /// The new number of tasks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tasks: u32,
    /// Name of the new exchange topic, which is created [default: the present one's name and the number of tasks]
    #[arg(long, value_name = "TOPIC")]
    pub exchange: Option<String>,
    /// How long to wait for the group to be empty: static members stay for a session timeout after they have ended
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub wait: u64,
    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command; its report goes to `out`. `path` is the configuration's file.
///
/// # Errors
/// When instances run, a server cannot be asked, or the state is not as it was written (exit code 1). Nothing has changed then, or
/// the same command goes on where it failed.
pub async fn run(config: &Config, path: &Path, args: &RescaleArgs, out: &mut impl Write) -> Result<Verdict> {
    let admin = Admin::new(&config.clickhouse);
    let begun = marker(&admin).await?;
    let old = Cluster::ask(config)?;
    let new_exchange = new_exchange(config, args, begun.as_ref(), old.tasks)?;
    let members = Members::new(config)?;
    let mover = Mover::new(&config.clickhouse);
    if !args.dry_run {
        wait_until_stopped(&members, &mover, args.wait, out).await?;
    }
    let (mut sources, mut newest) = mover.sources(old.tasks).await?;
    ensure!(!sources.is_empty(), nothing_to_move(config, old.tasks));
    if args.dry_run {
        writeln!(out, "would move the state of {} tasks to {} tasks, with the new exchange topic `{new_exchange}`", old.tasks, args.tasks)?;
        return Ok(Verdict::Fine);
    }
    let mut left = unread(config, &sources)?;
    for _ in 0..SETTLE_ATTEMPTS {
        if begun.is_some() || left.is_empty() {
            break;
        }
        writeln!(out, "tasks read what others have sent them (`onecode run --settle`) ...")?;
        settle(path)?;
        wait_until_stopped(&members, &mover, args.wait, out).await?;
        (sources, newest) = mover.sources(old.tasks).await?;
        left = unread(config, &sources)?;
    }
    if let Some((task, messages)) = left.first() {
        bail!(
            "task {task} has not read {messages} messages of the exchange: run `onecode run --settle --config {}` until it ends by itself, then `onecode rescale` again",
            path.display()
        );
    }
    let mut told = Ok(());
    let new = make_exchange(config, &new_exchange, args.tasks, |topic| {
        if told.is_ok() {
            told = writeln!(out, "{topic}");
        }
    })
    .await?;
    told?;
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let plan = decide(&sources, &old, &new, config, &new_exchange, now_ms)?;
    for log in &plan.dropped {
        writeln!(out, "warning: {log} is not among the configured topics: how far it was read is not kept")?;
    }
    mover.begin(&Marker { from: old.tasks, to: args.tasks, exchange: new_exchange.clone() }).await?;
    move_all(&mover, &sources, &plan, newest + 1, out).await?;
    writeln!(
        out,
        "done. Now set this in the configuration of every instance, and start them:\n\n[topics]\nexchange = {{ name = \"{new_exchange}\" }}\n\nThe topic `{}` is not needed any more.",
        config.topics.exchange
    )?;
    Ok(Verdict::Fine)
}

fn nothing_to_move(config: &Config, tasks: u32) -> String {
    format!(
        "`task_state` of database `{}` has no state for {tasks} tasks, which is what topic `{}` has partitions: set `topics.exchange` to the topic that the pipeline ran with; for a new pipeline `onecode migrate --tasks N` is enough",
        config.clickhouse.database, config.topics.exchange
    )
}

/// The name of the new topic, if the request fits the state.
fn new_exchange(config: &Config, args: &RescaleArgs, begun: Option<&Marker>, old_tasks: u32) -> Result<String> {
    if let Some(begun) = begun {
        ensure!(
            (begun.from, begun.to) == (old_tasks, args.tasks) && args.exchange.as_ref().is_none_or(|name| *name == begun.exchange),
            "a move from {} to {} tasks with topic `{}` was begun and has to be ended first: `onecode rescale --tasks {}` with `topics.exchange` as it was",
            begun.from,
            begun.to,
            begun.exchange,
            begun.to
        );
        return Ok(begun.exchange.clone());
    }
    ensure!(args.tasks != old_tasks, "topic `{}` has {old_tasks} partitions: there are {old_tasks} tasks already", config.topics.exchange);
    let present = &config.topics.exchange;
    let base = present.strip_suffix(&format!(".{old_tasks}")).unwrap_or(present);
    let name = args.exchange.clone().unwrap_or_else(|| format!("{base}.{}", args.tasks));
    ensure!(!topics::names(config).contains(&name.as_str()), "topic `{name}` is one of the pipeline's topics: a new one is needed");
    Ok(name)
}

/// Waits until the group has no members, and ClickHouse has carried out what they had sent it.
async fn wait_until_stopped(members: &Members, mover: &Mover, wait_s: u64, out: &mut impl Write) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(wait_s);
    let mut is_told = false;
    loop {
        let count = members.count()?;
        let inserts = if count == 0 { mover.inserts_under_way().await? } else { 0 };
        if count == 0 && inserts == 0 {
            return Ok(());
        }
        let is_late = Instant::now() >= until;
        ensure!(!is_late || count == 0, "the group still has {count} members after {wait_s} s: stop every instance of `onecode run` first");
        ensure!(
            !is_late,
            "ClickHouse still carries out {inserts} inserts after {wait_s} s: what they bring would be counted twice; see system.processes"
        );
        if !is_told && count > 0 {
            writeln!(out, "waiting until the group has no members ({count} now; one that was stopped stays for a session timeout) ...")?;
            out.flush()?;
            is_told = true;
        }
        tokio::time::sleep(LEAVE_LOOK_EVERY).await;
    }
}

fn settle(path: &Path) -> Result<()> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let ended = Command::new(program)
        .args(["run", "--settle", "--dynamic", "--config"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let status = ended.context("cannot start `onecode run --settle`")?;
    ensure!(status.success(), "`onecode run --settle` failed ({status}); its messages are above");
    Ok(())
}

async fn move_all(mover: &Mover, sources: &[Source], plan: &Plan, generation: u64, out: &mut impl Write) -> Result<()> {
    let mut told = Ok(());
    let tell = |source: &Source, rows| {
        if told.is_ok() {
            told = writeln!(out, "task {}: {rows} rows read", source.task);
        }
    };
    let moved = mover.write(sources, plan, generation, tell).await?;
    mover.end(sources).await?;
    told?;
    writeln!(out, "{} rows written for {} tasks; {} cells changed hands", moved.rows, plan.owners, moved.cells)?;
    Ok(())
}
