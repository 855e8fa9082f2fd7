//! The allocator's settings.
//!
//! mimalloc asks the kernel for huge pages, which suits training. Of 2 MiB, a model's tokenizer and buffers fill a part
//! only, so that a served model would take much more memory than it uses; packed weights have memory of their own.
#![allow(unsafe_code, reason = "the allocator is a C library, and the kernel's advice is a system call")]

use std::ffi::c_long;

/// The number that `mi_option_purge_delay` has in mimalloc 3. The environment variable `MIMALLOC_PURGE_DELAY` has
/// precedence over what is set here.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Uses little memory: freed memory returns to the kernel after a millisecond, in pages of the usual size. Pages in use
/// stay as they are, so `main` begins with it.
pub fn for_inference() {
    set_purge_delay(1);
    use_huge_pages(false);
}

/// Keeps freed memory until the program ends: a training step allocates and frees the same large blocks each time, and
/// returning them to the kernel in between made it clear each page again, a tenth of the step (measured).
pub fn for_training() {
    set_purge_delay(-1);
    use_huge_pages(true);
}

fn set_purge_delay(milliseconds: c_long) {
    // SAFETY: sets a number in the allocator's table of options; any value is allowed, -1 meaning never.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, milliseconds) }
}

/// Advises the kernel for the map that the allocator's blocks are in.
#[cfg(target_os = "linux")]
fn use_huge_pages(huge: bool) {
    use std::ffi::{c_int, c_void};
    unsafe extern "C" {
        fn madvise(address: *mut c_void, len: usize, advice: c_int) -> c_int;
    }
    // `MADV_HUGEPAGE` and `MADV_NOHUGEPAGE`, the same on every architecture.
    let advice = if huge { 14 } else { 15 };
    let block = Box::new(0u8);
    let address = std::ptr::from_ref(&*block).addr();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Some(range) = maps.lines().filter_map(addresses).find(|range| range.contains(&address)) else { return };
    // SAFETY: the advice changes how the kernel backs the range, and not what is in it. If it fails, nothing changes.
    unsafe { madvise(std::ptr::without_provenance_mut(range.start), range.len(), advice) };
}

/// Returns the addresses of a line of `/proc/self/maps`.
#[cfg(target_os = "linux")]
fn addresses(line: &str) -> Option<std::ops::Range<usize>> {
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

/// Does nothing: the allocator asks for huge pages on Linux only.
#[cfg(not(target_os = "linux"))]
fn use_huge_pages(_: bool) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_block_is_among_the_maps() {
        assert_eq!(addresses("7f00a000-7f00c000 rw-p 00000000 00:00 0"), Some(0x7f00_a000..0x7f00_c000));
        assert_eq!(addresses("not a map"), None);
        let block = Box::new(0u8);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let of_block = |range: &std::ops::Range<usize>| range.contains(&std::ptr::from_ref(&*block).addr());
        assert_eq!(maps.lines().filter_map(addresses).filter(of_block).count(), 1);
    }
}
