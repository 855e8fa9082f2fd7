//! The pairs of a session: prompts in a random order, and the answers of both models, written ahead of the person who
//! reads them.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use artifact::Digest;
use generate::{CompletionOptions, Generator, Prompt, Session};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::votes::{Answer, Votes};

/// Pairs that are written ahead: heuristic, reading one takes longer than writing one.
const AHEAD: usize = 2;

/// A model that answers.
pub struct Player {
    /// Its name.
    pub name: String,
    /// The digest of its files.
    pub digest: Digest,
    /// The model.
    pub generator: Generator,
    /// How it answers; of the seed, that of the session.
    pub options: CompletionOptions,
}

/// Two answers to a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duel {
    /// The prompt as it is shown.
    pub prompt: String,
    /// The seed of the session.
    pub seed: u64,
    /// The answers on the left and on the right.
    pub sides: [Answer; 2],
}

/// The pairs of a session that remain to be judged.
pub struct Duels {
    receiver: Receiver<anyhow::Result<Duel>>,
    is_dropped: Arc<AtomicBool>,
    total: usize,
}

impl Duels {
    /// Begins to answer `prompts`, of which those that `votes` has for the same models and the same seed are left out.
    pub fn begin(players: [Player; 2], prompts: &[Prompt], seed: u64, votes: &Votes) -> Self {
        let digests = players.each_ref().map(|player| player.digest);
        let mut questions = questions(prompts, seed);
        questions.retain(|question| !votes.has(digests, &shown(&question.prompt), seed));
        let (sender, receiver) = sync_channel(AHEAD);
        let is_dropped = Arc::new(AtomicBool::new(false));
        let total = questions.len();
        let stop = Arc::clone(&is_dropped);
        // It ends with its last pair, or once no one waits for one.
        thread::spawn(move || {
            if let Err(error) = answer_all(&players, questions, seed, &sender, &stop) {
                let _ = sender.send(Err(error));
            }
        });
        Self { receiver, is_dropped, total }
    }

    /// Returns the number of pairs, those that were taken included.
    pub fn total(&self) -> usize {
        self.total
    }
}

impl Iterator for Duels {
    type Item = anyhow::Result<Duel>;

    fn next(&mut self) -> Option<Self::Item> {
        self.receiver.recv().ok()
    }
}

impl Drop for Duels {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Relaxed);
    }
}

/// A prompt with its place in the session.
#[derive(Debug, Clone, PartialEq)]
struct Question {
    prompt: Prompt,
    /// The seed of both answers.
    seed: u64,
    /// Whether the first model's answer is on the right.
    is_swapped: bool,
}

/// Returns the prompts in the order of the session. The seed of an answer depends on the prompt's place in the list.
fn questions(prompts: &[Prompt], seed: u64) -> Vec<Question> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut questions: Vec<Question> = prompts
        .iter()
        .zip(0u64..)
        .map(|(prompt, i)| Question { prompt: prompt.clone(), seed: seed.wrapping_add(i), is_swapped: false })
        .collect();
    // Fisher and Yates, 1938.
    for i in (1..questions.len()).rev() {
        questions.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
    for question in &mut questions {
        question.is_swapped = random.next_u64() % 2 == 1;
    }
    questions
}

fn answer_all(
    players: &[Player; 2],
    questions: Vec<Question>,
    seed: u64,
    sender: &SyncSender<anyhow::Result<Duel>>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let [first, second] = players;
    first.generator.session(|of_first| {
        second.generator.session(|of_second| {
            for question in questions {
                let a = answer(first, of_first, &question, stop)?;
                let b = answer(second, of_second, &question, stop)?;
                let sides = if question.is_swapped { [b, a] } else { [a, b] };
                let duel = Duel { prompt: shown(&question.prompt), seed, sides };
                if stop.load(Ordering::Relaxed) || sender.send(Ok(duel)).is_err() {
                    break;
                }
            }
            Ok(())
        })
    })
}

fn answer(
    player: &Player,
    session: &mut Session<'_>,
    question: &Question,
    stop: &AtomicBool,
) -> anyhow::Result<Answer> {
    let options = player.options.with_seed(question.seed);
    let go_on = |_: &str| if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let completion = session.generate(&question.prompt, &options, &mut { go_on })?;
    Ok(Answer { model: player.name.clone(), digest: player.digest, text: completion.text })
}

/// Returns a prompt as people read it: a conversation with the role before each message.
fn shown(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Text(text) => text.clone(),
        Prompt::Chat(conversation) => {
            let messages = conversation.messages.iter().map(|message| format!("{}: {}", message.role, message.text()));
            messages.collect::<Vec<_>>().join("\n\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_order_and_sides() {
        let prompts: Vec<Prompt> = (0..200).map(|i| Prompt::Text(i.to_string())).collect();
        let one = questions(&prompts, 1);
        assert_eq!(one, questions(&prompts, 1));
        assert_ne!(one, questions(&prompts, 2));
        let mut seeds: Vec<u64> = one.iter().map(|question| question.seed).collect();
        assert!(!seeds.is_sorted());
        seeds.sort_unstable();
        assert!(seeds.into_iter().eq(1..=200));
        let swapped = one.iter().filter(|question| question.is_swapped).count();
        assert!((70..=130).contains(&swapped), "{swapped} of 200");
        assert!(questions(&[], 1).is_empty());
    }

    #[test]
    fn conversations_are_shown_with_their_roles() {
        assert_eq!(shown(&Prompt::chat(Some("Be brief."), "Who?")), "system: Be brief.\n\nuser: Who?");
        assert_eq!(shown(&Prompt::Text("fn ".to_owned())), "fn ");
    }
}
