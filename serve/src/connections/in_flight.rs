//! The number of requests that are being answered, or of open connections.

use tokio::sync::watch;

/// Counts requests or connections.
#[derive(Debug, Clone)]
pub(super) struct InFlight(watch::Sender<usize>);

/// One of them; dropped when the answer has been sent, or the connection is closed.
#[derive(Debug)]
pub(super) struct One(watch::Sender<usize>);

impl Default for InFlight {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl InFlight {
    /// Counts one.
    pub(super) fn begin(&self) -> One {
        self.0.send_modify(|count| *count += 1);
        One(self.0.clone())
    }

    /// Returns once there are none.
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
