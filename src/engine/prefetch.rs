//! Asks the processor for memory that is needed soon, and does not wait for it. A read would wait: the next few hundred instructions go on meanwhile, and then all stand
//! still until it is here, so that a handful of reads at most are waited for at the same time. What is asked for is fetched by the dozen.
//!
//! Promises to change nothing and to read nothing: an address is all that is taken of what is named.

use prefetch_index::prefetch_index;

/// The line of memory in which a value begins.
#[inline]
pub(super) fn prefetch<T>(value: &T) {
    prefetch_index(std::slice::from_ref(value), 0);
}

/// Bytes of a line of memory.
const LINE: usize = 64;

/// So many lines of one slice are asked for: what is longer is seldom needed whole.
const MOST_LINES: usize = 8;

/// The lines in which values lie, if there are any.
#[inline]
pub(super) fn prefetch_all<T>(values: &[T]) {
    let Some(last) = values.len().checked_sub(1) else { return };
    let step = (LINE / size_of::<T>().max(1)).max(1);
    for index in (0..last).step_by(step).take(MOST_LINES) {
        prefetch_index(values, index);
    }
    // They seldom begin where a line does.
    prefetch_index(values, last);
}
