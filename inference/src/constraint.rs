//! Constraints on what may be sampled, such as a grammar.
//!
//! A constraint is asked for the allowed tokens once per token. That takes about as long as a small model's forward
//! pass, so another thread computes them while the model reads the token before. A draft of speculative decoding ends
//! before the first token that the constraint refuses, so that the model verifies none that cannot be right.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel, sync_channel};

/// The tokens that may come next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMask(Vec<u32>);

/// What the tokens of a text must obey.
pub trait Constraint: Debug + Send + Sync {
    /// Returns the tokens that may come next. They include the end of the text only where it may end.
    ///
    /// # Errors
    /// Returns the reason if they cannot be computed.
    fn allowed(&mut self) -> Result<TokenMask, String>;

    /// Adds a token, one of those allowed, and returns true if nothing may follow it.
    ///
    /// # Errors
    /// Returns the reason if the token is not allowed.
    fn accept(&mut self, token: u32) -> Result<bool, String>;

    /// Returns how many of these tokens, from the first on, could be added one after another. Nothing is added.
    fn accepts(&mut self, tokens: &[u32]) -> usize;

    /// Returns a copy that changes independently.
    fn fork(&self) -> Box<dyn Constraint>;
}

impl Clone for Box<dyn Constraint> {
    fn clone(&self) -> Self {
        self.fork()
    }
}

impl TokenMask {
    /// Returns the mask that allows the tokens whose bits are set: bit `t % 32` of word `t / 32` is token t's.
    pub fn from_words(words: Vec<u32>) -> Self {
        Self(words)
    }

    /// Returns true if a token is allowed; one beyond the mask is not.
    pub fn allows(&self, token: u32) -> bool {
        self.0.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Sets the logits of the other tokens to minus infinity. Returns false if no token is left.
    pub fn apply(&self, logits: &mut [f32]) -> bool {
        let mut is_left = false;
        for (token, logit) in logits.iter_mut().enumerate() {
            if !self.allows(token as u32) {
                *logit = f32::NEG_INFINITY;
            }
            is_left |= *logit > f32::NEG_INFINITY;
        }
        is_left
    }
}

type Computed = (Box<dyn Constraint>, Result<TokenMask, String>);

/// The constraint of a sample, whose allowed tokens another thread computes.
#[derive(Debug)]
pub(crate) struct Guide {
    /// The constraint, unless another thread has it.
    constraint: Option<Box<dyn Constraint>>,
    computing: Option<Receiver<Computed>>,
    /// The tokens that may come next, once they are known.
    allowed: Option<Result<TokenMask, String>>,
    draft: Option<GuidedDraft>,
}

/// Tokens that may come next, and what may follow each of them.
#[derive(Debug)]
struct GuidedDraft {
    tokens: VecDeque<u32>,
    allowed: Receiver<Result<TokenMask, String>>,
}

impl Guide {
    /// Starts to compute the first allowed tokens.
    pub(crate) fn new(constraint: Box<dyn Constraint>) -> Self {
        Self { constraint: None, computing: Some(compute(constraint)), allowed: None, draft: None }
    }

    /// Returns a copy of the constraint to write a draft with, once the allowed tokens are computed.
    pub(crate) fn fork(&mut self) -> Option<Box<dyn Constraint>> {
        self.wait();
        self.constraint.clone()
    }

    /// Ends a draft before the first token that is not allowed, and starts to compute what may follow each of the
    /// others.
    pub(crate) fn cut(&mut self, draft: &mut Vec<u32>) {
        self.wait();
        let (Some(constraint), Some(Ok(allowed))) = (&mut self.constraint, &self.allowed) else {
            return draft.clear();
        };
        let is_allowed = draft.first().is_some_and(|token| allowed.allows(*token));
        draft.truncate(if is_allowed { constraint.accepts(draft) } else { 0 });
        if draft.is_empty() {
            return;
        }
        let (mut ahead, tokens) = (constraint.fork(), draft.clone());
        let (sender, allowed) = channel();
        self.draft = Some(GuidedDraft { tokens: draft.iter().copied().collect(), allowed });
        spawn(move || {
            for token in tokens {
                let allowed = ahead.accept(token).and_then(|_| ahead.allowed());
                let is_error = allowed.is_err();
                if sender.send(allowed).is_err() || is_error {
                    return;
                }
            }
        });
    }

    /// Restricts the logits to the allowed tokens, once they are computed. Returns false if there are none.
    ///
    /// # Errors
    /// Returns the reason if they cannot be computed.
    pub(crate) fn restrict(&mut self, logits: &mut [f32]) -> Result<bool, String> {
        self.wait();
        let allowed = self.allowed.take().ok_or("the computation of the allowed tokens failed")?;
        Ok(allowed?.apply(logits))
    }

    /// Adds the token that was chosen, and starts to compute what may follow. Returns true if nothing may.
    ///
    /// # Errors
    /// Returns the reason if the token is not allowed.
    pub(crate) fn accept(&mut self, token: u32) -> Result<bool, String> {
        let Some(mut constraint) = self.constraint.take() else {
            return Err("a token was chosen before the allowed tokens were computed".to_owned());
        };
        if constraint.accept(token)? {
            return Ok(true);
        }
        if let Some(mut draft) = self.draft.take()
            && draft.tokens.pop_front() == Some(token)
            && let Ok(allowed) = draft.allowed.recv()
        {
            (self.constraint, self.allowed, self.draft) = (Some(constraint), Some(allowed), Some(draft));
        } else {
            self.computing = Some(compute(constraint));
        }
        Ok(false)
    }

    /// Waits until the allowed tokens are computed.
    fn wait(&mut self) {
        if let Some((constraint, allowed)) = self.computing.take().and_then(|computing| computing.recv().ok()) {
            (self.constraint, self.allowed) = (Some(constraint), Some(allowed));
        }
    }
}

fn compute(mut constraint: Box<dyn Constraint>) -> Receiver<Computed> {
    let (sender, receiver) = sync_channel(1);
    spawn(move || {
        let mask = constraint.allowed();
        // The sample may have ended in the meantime.
        let _ = sender.send((constraint, mask));
    });
    receiver
}

/// Runs `work` on another thread. A panic in it drops its sender, and so fails its sample alone: rayon would end the
/// process.
fn spawn(work: impl FnOnce() + Send + 'static) {
    rayon::spawn(|| drop(catch_unwind(AssertUnwindSafe(work))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_leaves_the_allowed_tokens() {
        let mask = TokenMask::from_words(vec![1 << 3 | 1 << 31, 1]);
        let allowed: Vec<u32> = (0..100).filter(|token| mask.allows(*token)).collect();
        assert_eq!(allowed, [3, 31, 32]);
        let mut logits = vec![1.0; 40];
        assert!(mask.apply(&mut logits));
        assert_eq!(logits.iter().filter(|logit| logit.is_finite()).count(), 3);
        assert!(!mask.apply(&mut [0.0; 3]), "no token of this vocabulary is allowed");
        logits[3] = f32::NEG_INFINITY;
        assert!(mask.apply(&mut logits));
    }

    #[derive(Debug)]
    struct Panicking;

    impl Constraint for Panicking {
        fn allowed(&mut self) -> Result<TokenMask, String> {
            panic!("a constraint with a fault");
        }

        fn accept(&mut self, _: u32) -> Result<bool, String> {
            Ok(false)
        }

        fn accepts(&mut self, tokens: &[u32]) -> usize {
            tokens.len()
        }

        fn fork(&self) -> Box<dyn Constraint> {
            Box::new(Self)
        }
    }

    #[test]
    fn a_panic_of_a_constraint_fails_its_sample() {
        let mut guide = Guide::new(Box::new(Panicking));
        assert_eq!(guide.restrict(&mut [0.0]), Err("the computation of the allowed tokens failed".to_owned()));
        assert!(guide.accept(0).is_err());
    }
}
