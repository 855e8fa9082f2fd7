//! The events of a request at the pace of a client: what a fast model writes within a few milliseconds is one event.
//!
//! Each wake-up of the thread for I/O takes a core from the model, and each small packet costs as much as a large one.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::event::Event;

/// The least time between two deliveries: shorter than a frame of any screen. With 4 ms no more of a fast model's speed
/// reaches the client (BENCHMARKS.md), since the end of a text waits for the next delivery.
const PACE: Duration = Duration::from_millis(2);

/// The receiver of a request's events. Dropping it cancels the request.
pub(crate) struct PacedEvents {
    worker: UnboundedReceiver<Event>,
    ready: VecDeque<Event>,
    /// When events were last delivered.
    delivered: Option<Instant>,
}

impl PacedEvents {
    pub(crate) fn new(worker: UnboundedReceiver<Event>) -> Self {
        Self { worker, ready: VecDeque::new(), delivered: None }
    }

    /// Returns the next event; none after the last one. The first comes at once.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        if let Some(next) = self.delivered.map(|last| last + PACE).filter(|next| *next > Instant::now()) {
            tokio::time::sleep_until(next).await;
        }
        let first = self.worker.recv().await?;
        self.delivered = Some(Instant::now());
        self.add(first);
        while let Ok(event) = self.worker.try_recv() {
            self.add(event);
        }
        self.ready.pop_front()
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
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    fn text(index: usize, text: &str) -> Event {
        Event::Text { index, text: text.to_owned(), tokens: Vec::new() }
    }

    #[test]
    fn text_of_a_few_milliseconds_is_one_event() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (sender, receiver) = unbounded_channel();
            let mut events = PacedEvents::new(receiver);
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
            drop(sender);
            found.push(format!("{:?}", events.next().await.unwrap()));
            assert!(start.elapsed() >= PACE && events.next().await.is_none());
            let expected = ["\"ab\"", "\"xy\"", "Finished", "\"z\""];
            assert!(found.iter().zip(expected).all(|(event, part)| event.contains(part)), "{found:?}");
        });
    }
}
