//! The hot path by instructions: `cargo bench --profile dist --bench instructions`. Unlike time, the figure is the same on a busy machine.
//!
//! This program runs itself under valgrind's callgrind with the function and without it: the difference, by event, is free of start,
//! generation and preparation.

#[path = "common/events.rs"]
#[allow(dead_code, reason = "every benchmark uses a part of it")]
mod events;

use std::hint::black_box;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use onecode::decode::Rules;
use onecode::generate::WireFormat;

const EVENTS: u64 = 20_000;
const FUNCTIONS: [&str; 7] = ["decode protobuf", "decode json", "apply", "say", "hear", "rows", "checkpoint"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [marker, function, count, times] = arguments.as_slice()
        && marker == "--inside"
    {
        return inside(function, count.parse()?, times.parse()?);
    }
    ensure!(
        Command::new("valgrind").arg("--version").output().is_ok(),
        "valgrind is not on this machine: install the package valgrind (apt-get install valgrind)"
    );
    println!("{:<18} instructions an event", "function");
    for function in FUNCTIONS {
        let (nothing, once) = (instructions(function, 0)?, instructions(function, 1)?);
        println!("{function:<18} {}", once.saturating_sub(nothing) / EVENTS);
    }
    Ok(())
}

/// Prepares events, and lets the function have them so many times: 0 or 1.
fn inside(function: &str, count: u64, times: u32) -> Result<()> {
    let format = if function == "decode json" { WireFormat::Json } else { WireFormat::Protobuf };
    let (records, rules) = (events::records(count, format), Rules::default());
    let decoded = events::events(&records, &rules);
    // What comes before the function is prepared whether it then runs or not.
    let is_filled = ["say", "hear", "rows", "checkpoint"].contains(&function);
    let mut engine = if is_filled { events::engine_of(&decoded) } else { events::engine() };
    let said = if function == "hear" { events::contributions_of(&mut engine) } else { Vec::new() };
    for _ in 0..times {
        match function {
            "decode protobuf" | "decode json" => drop(black_box(events::events(&records, &rules))),
            "apply" => events::apply_all(&mut engine, &decoded),
            "say" => engine.drain_contributions(|sharer, contribution| {
                black_box((sharer, contribution));
            }),
            "hear" => events::receive_all(&mut engine, &said),
            "rows" => drop(black_box(events::rows_of(&mut engine))),
            "checkpoint" => drop(black_box(events::cut_bytes_of(&mut engine))),
            other => bail!("no such function: {other}"),
        }
    }
    // Freeing what a function made is not its own cost; what was prepared is freed in both runs.
    std::mem::forget(black_box(engine));
    Ok(())
}

fn instructions(function: &str, times: u32) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--inside", function, &EVENTS.to_string(), &times.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "valgrind failed:\n{said}");
    let counted = said.lines().find_map(|line| line.split_once("Collected : ")).context("callgrind counted nothing")?;
    Ok(counted.1.trim().parse()?)
}
