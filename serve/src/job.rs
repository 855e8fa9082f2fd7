//! A place in the queue of the worker.

use std::sync::Arc;

use inference::Adapter;

use crate::metrics::Events;
use crate::work::Work;

/// A request that waits or runs.
pub(crate) struct Job {
    /// What it asks for.
    pub(crate) work: Work,
    /// The adapter of the model that it is for.
    pub(crate) adapter: Option<Arc<Adapter>>,
    /// Where its texts go; closed when the client has gone.
    pub(crate) events: Events,
}
