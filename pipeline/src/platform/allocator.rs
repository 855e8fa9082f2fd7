//! The allocator's settings.
#![allow(unsafe_code, reason = "the allocator is a C library")]

/// The number that `mi_option_purge_delay` has in mimalloc 3.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Keeps freed memory until the program ends: a training step allocates and frees the same large blocks each time, and
/// returning them to the kernel in between made it clear each page again, a tenth of the step (measured). The
/// environment variable `MIMALLOC_PURGE_DELAY` has precedence.
pub fn keep_freed_memory() {
    // SAFETY: sets a number in the allocator's table of options; any value is allowed, -1 meaning never.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1) }
}
