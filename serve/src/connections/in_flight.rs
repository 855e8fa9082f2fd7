//! The number of requests that are being answered.

use tokio::sync::watch;

/// Counts the requests of all connections.
#[derive(Debug, Clone)]
pub(super) struct InFlight(watch::Sender<usize>);

/// One request; dropped when its answer has been sent.
#[derive(Debug)]
pub(super) struct One(watch::Sender<usize>);

impl Default for InFlight {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl InFlight {
    /// Counts a request.
    pub(super) fn begin(&self) -> One {
        self.0.send_modify(|count| *count += 1);
        One(self.0.clone())
    }

    /// Returns once no request is being answered.
    pub(super) async fn ended(&self) {
        // The sender is here, so the channel cannot be closed.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
