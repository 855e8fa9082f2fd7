//! The channel of a request's events, at the pace of a client: what a fast model writes within a few milliseconds is
//! one event.
//!
//! Each wake-up of the thread for I/O takes a core from the model, and each small packet costs as much as a large one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::event::Event;

/// The least time between two deliveries: shorter than a frame of any screen.
const PACE: Duration = Duration::from_millis(2);

/// The worker's end of the channel.
pub(crate) struct EventSender {
    events: UnboundedSender<Event>,
    /// Dropped after `events`, as fields are in their order.
    _end: oneshot::Sender<Infallible>,
}

/// The client has gone.
#[derive(Debug)]
pub(crate) struct Gone;

/// The receiver of a request's events. Dropping it cancels the request.
pub(crate) struct PacedEvents {
    worker: UnboundedReceiver<Event>,
    /// Ready once the worker has sent all.
    end: oneshot::Receiver<Infallible>,
    ready: VecDeque<Event>,
    /// When events were last delivered.
    delivered: Option<Instant>,
}

/// Returns the two ends of a channel. It is unbounded, so that a slow client does not block the worker: `max_tokens`
/// limits how much can pile up.
pub(crate) fn channel() -> (EventSender, PacedEvents) {
    let ((events, worker), (sent_end, end)) = (unbounded_channel(), oneshot::channel());
    let receiver = PacedEvents { worker, end, ready: VecDeque::new(), delivered: None };
    (EventSender { events, _end: sent_end }, receiver)
}

impl EventSender {
    /// Returns true if the receiver has been dropped.
    pub(crate) fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    /// Sends an event.
    ///
    /// # Errors
    /// Returns an error if the receiver has been dropped.
    pub(crate) fn send(&self, event: Event) -> Result<(), Gone> {
        self.events.send(event).map_err(|_| Gone)
    }
}

impl PacedEvents {
    /// Returns the next event; none after the last one. The first comes at once, and so does the end of all.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        // A closed channel has an end that must not be polled again.
        if let Some(last) = self.delivered
            && !self.worker.is_closed()
        {
            tokio::select! {
                () = tokio::time::sleep_until(last + PACE) => {}
                _ = &mut self.end => {}
            }
        }
        let first = self.worker.recv().await?;
        self.delivered = Some(Instant::now());
        self.add(first);
        while let Ok(event) = self.worker.try_recv() {
            self.add(event);
        }
        self.ready.pop_front()
    }

    /// Waits for the end and returns all events.
    pub(crate) async fn all(mut self) -> VecDeque<Event> {
        // Nothing is ever sent there.
        let _ = (&mut self.end).await;
        while let Ok(event) = self.worker.try_recv() {
            self.add(event);
        }
        self.ready
    }

    /// Adds an event; text joins earlier text of the same index.
    fn add(&mut self, event: Event) {
        if let Event::Text { index, text, tokens } = &event {
            let earlier = self.ready.iter_mut().find_map(|event| match event {
                Event::Text { index: other, text, tokens } if other == index => Some((text, tokens)),
                _ => None,
            });
            if let Some((earlier_text, earlier_tokens)) = earlier {
                earlier_text.push_str(text);
                earlier_tokens.extend_from_slice(tokens);
                return;
            }
        }
        self.ready.push_back(event);
    }
}

#[cfg(test)]
mod tests {
    use generate::FinishReason;

    use super::*;

    fn text(index: usize, text: &str) -> Event {
        Event::Text { index, text: text.to_owned(), tokens: Vec::new() }
    }

    fn block_on(future: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future);
    }

    #[test]
    fn text_of_a_few_milliseconds_is_one_event() {
        block_on(async {
            let (sender, mut events) = channel();
            let mut found = Vec::new();
            for event in [text(0, "a"), text(1, "x"), text(0, "b"), text(1, "y")] {
                sender.send(event).unwrap();
            }
            let reason = FinishReason::Stop;
            let finished =
                Event::Finished { index: 0, prompt_tokens: 1, completion_tokens: 2, reason, mean_logprob: 0.0 };
            sender.send(finished).unwrap();
            let start = Instant::now();
            for _ in 0..3 {
                found.push(format!("{:?}", events.next().await.unwrap()));
            }
            // What comes later is not held up by what has been delivered.
            sender.send(text(1, "z")).unwrap();
            found.push(format!("{:?}", events.next().await.unwrap()));
            assert!(start.elapsed() >= PACE);
            let expected = ["\"ab\"", "\"xy\"", "Finished", "\"z\""];
            assert!(found.iter().zip(expected).all(|(event, part)| event.contains(part)), "{found:?}");
        });
    }

    #[test]
    fn the_end_does_not_wait() {
        block_on(async {
            let (sender, mut events) = channel();
            sender.send(text(0, "a")).unwrap();
            assert!(events.next().await.is_some());
            events.delivered = Some(Instant::now() + Duration::from_hours(1));
            let ending = async {
                tokio::task::yield_now().await;
                sender.send(text(0, "b")).unwrap();
                drop(sender);
            };
            let (last, ()) = tokio::join!(events.next(), ending);
            assert!(matches!(last, Some(Event::Text { text, .. }) if text == "b"));
            assert!(events.next().await.is_none());
        });
    }

    #[test]
    fn a_whole_answer_has_all_events() {
        block_on(async {
            let (sender, events) = channel();
            let sending = async {
                for event in [text(0, "a"), text(1, "x"), text(0, "b")] {
                    sender.send(event).unwrap();
                    tokio::task::yield_now().await;
                }
                drop(sender);
            };
            let (all, ()) = tokio::join!(events.all(), sending);
            let texts = all.into_iter().map(|event| match event {
                Event::Text { index, text, .. } => (index, text),
                other => panic!("{other:?}"),
            });
            assert_eq!(texts.collect::<Vec<_>>(), [(0, "ab".to_owned()), (1, "x".to_owned())]);
        });
    }
}
