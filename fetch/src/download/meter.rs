//! Progress of several downloads in one progress bar.

use std::sync::atomic::{AtomicU64, Ordering};

use artifact::Context;

/// Counts the bytes of several downloads for one progress bar.
pub(crate) struct Meter<'a> {
    /// Receives the progress.
    pub context: &'a Context,
    done: AtomicU64,
    total: AtomicU64,
}

impl<'a> Meter<'a> {
    /// Returns a meter of `total` bytes.
    pub fn new(context: &'a Context, total: u64) -> Self {
        context.progress.begin("downloading", total, "bytes");
        Self { context, done: AtomicU64::new(0), total: AtomicU64::new(total) }
    }

    /// Counts received bytes.
    pub fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.context.progress.position(done);
    }

    /// Subtracts received bytes that are discarded.
    pub fn subtract(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Adds a length that was not known at the beginning.
    pub fn expect(&self, bytes: u64) {
        let total = self.total.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.context.progress.begin("downloading", total, "bytes");
    }
}
