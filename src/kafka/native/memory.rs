//! How long the allocator keeps what was freed.
//!
//! librdkafka takes memory for each answer of a broker and frees it when the records were applied; rows and checkpoints come and go by the megabyte, too.
//! The allocator (`src/main.rs`) gives all that is free at a moment back to the kernel, by default each second, and it is taken again, page by page,
//! in the next: a twentieth of the process's CPU. Owns that one setting.

use std::ffi::c_long;

use libmimalloc_sys as mimalloc;

/// Ten times the default: of what a pipeline under load frees, nearly all is used again sooner; an idle one gives it back after this.
const KEPT_MS: c_long = 10_000;

/// `mi_option_purge_delay` of mimalloc 2 and 3, which the crate has no name for.
const PURGE_DELAY: mimalloc::mi_option_t = 15;

/// Keeps freed memory for ten seconds, unless `MIMALLOC_PURGE_DELAY` says otherwise. To be called once, before there is a second thread.
pub fn keep_freed_memory() {
    // SAFETY: stores a number in a table of the allocator; a thread that reads it meanwhile would see either value.
    unsafe { mimalloc::mi_option_set_default(PURGE_DELAY, KEPT_MS) }
}
