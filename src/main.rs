//! The binary: everything is in the library.

use std::process::ExitCode;

/// State is many small allocations, rows are few large ones that come and go: the C library's allocator takes a tenth more of the CPU.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    onecode::commands::main()
}
