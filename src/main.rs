//! The binary: everything is in the library.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// State is many small allocations, rows are few large ones that come and go: the C library's allocator takes a tenth more of the CPU. Without huge
/// pages: the kernel zeroed 2 MiB for every few KiB that were used, which took a fifth of the CPU and much of the memory. It serves librdkafka
/// too, whose threads kept over 100 MiB of freed messages in the C library's arenas.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long freed memory is kept, milliseconds: the allocator's own default, a second, kept a fifth of the process for nothing.
const PURGE_DELAY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "100");

fn main() -> ExitCode {
    if env::args_os().any(|argument| argument == "run") && env::var_os(PURGE_DELAY.0).is_none() {
        begin_again();
    }
    onecode::commands::main()
}

/// The allocator reads its settings before `main`, so the process becomes a new one that has them, with the same number. Where that
/// cannot be, it goes on without.
fn begin_again() {
    let Ok(program) = env::current_exe() else { return };
    _ = Command::new(program).args(env::args_os().skip(1)).env(PURGE_DELAY.0, PURGE_DELAY.1).exec();
}
