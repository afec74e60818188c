//! The binary: everything is in the library.

use std::process::ExitCode;

/// State is many small allocations, rows are few large ones that come and go: the C library's allocator takes a tenth more of the CPU. Without huge
/// pages: the kernel zeroed 2 MiB for every few KiB that were used, which took a fifth of the CPU and much of the memory. It serves librdkafka
/// too, whose threads kept over 100 MiB of freed messages in the C library's arenas.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    onecode::commands::main()
}
