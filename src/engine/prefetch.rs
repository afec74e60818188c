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

/// The line in which values begin, if there are any.
#[inline]
pub(super) fn prefetch_all<T>(values: &[T]) {
    prefetch_index(values, 0);
}
