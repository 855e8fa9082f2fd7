//! Zeroed memory in whole pages, huge ones if possible.

use memmap2::MmapMut;

/// The size of a huge page on `x86_64` and most ARM systems. Reading hundreds of megabytes through pages of 4 KiB
/// spends a part of the time on address translation.
const HUGE_PAGE: usize = 2 << 20;

/// Memory that begins at a page.
#[derive(Debug)]
pub struct Memory {
    map: Option<MmapMut>,
    start: usize,
    len: usize,
}

impl Memory {
    /// Returns `len` zero bytes, in huge pages if they fill one and the system has them.
    ///
    /// # Panics
    /// Panics if the system is out of memory, as every allocation does.
    pub fn zeroed(len: usize) -> Self {
        if len == 0 {
            return Self { map: None, start: 0, len };
        }
        let is_huge = len >= HUGE_PAGE;
        let mapped_len = if is_huge { len + HUGE_PAGE } else { len };
        let map = match MmapMut::map_anon(mapped_len) {
            Ok(map) => map,
            Err(error) => panic!("allocating {mapped_len} bytes: {error}"),
        };
        let start = if is_huge { map.as_ptr().align_offset(HUGE_PAGE) } else { 0 };
        #[cfg(target_os = "linux")]
        if is_huge {
            // Advice: without it the memory is only slower. The end, which does not fill a huge page, has small ones.
            let _ = map.advise_range(memmap2::Advice::HugePage, start, len / HUGE_PAGE * HUGE_PAGE);
        }
        Self { map: Some(map), start, len }
    }

    pub fn bytes(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[self.start..self.start + self.len])
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.map.as_mut().map_or(&mut [], |map| &mut map[self.start..self.start + self.len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_at_a_page_and_is_zeroed() {
        for len in [0, 1, 100, HUGE_PAGE - 1, HUGE_PAGE, 3 * HUGE_PAGE + 17] {
            let mut memory = Memory::zeroed(len);
            assert_eq!(memory.bytes().len(), len);
            assert!(memory.bytes().iter().all(|byte| *byte == 0));
            assert!(len == 0 || memory.bytes().as_ptr().addr().is_multiple_of(4096));
            memory.bytes_mut().fill(1);
            assert!(memory.bytes().iter().all(|byte| *byte == 1));
        }
    }
}
