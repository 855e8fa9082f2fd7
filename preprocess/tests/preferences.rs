//! Preference pairs.

mod corpus;

use artifact::{Context, Sealed};
use corpus::{Chat, seal, short, unsealed, write_chats};
use preprocess::{Config, Error};
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

fn preferences(count: usize) -> Vec<Chat> {
    let chat = |i: usize| {
        vec![
            ("user", format!("What is {i} and {i}?")),
            ("assistant", format!("It is {}.", 2 * i)),
            ("rejected", format!("No idea, {i} is too large.")),
        ]
    };
    (0..count).map(chat).collect()
}

fn run(config: &Config, chats: &[Chat], each: impl Fn(&Sealed)) -> Result<(), Error> {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let corpus = write_chats(from.path(), chats, &[]);
    let outcome = preprocess::run(config, &corpus, &unsealed(to.path()), &Context::quiet(0))?;
    each(&seal(to.path(), outcome));
    Ok(())
}

#[test]
fn a_preference_becomes_a_pair_of_consecutive_documents() {
    // Shards so small that some end between pairs.
    let config = Config { shard_bytes: 300, ..short() };
    let check = |sealed: &Sealed| {
        let tokenizer = Tokenizer::from_file(&sealed.folder().join("tokenizer.json")).unwrap();
        let mut pairs = 0;
        for name in ["train", "validation", "test"] {
            let split = Split::open(sealed, name).unwrap();
            assert_eq!(split.n_pairs(), Some(split.n_documents() / 2));
            for pair in 0..split.n_pairs().unwrap() {
                pairs += 1;
                let parts = [0, 1].map(|which| {
                    let range = split.document_range(2 * pair + which);
                    let mut learned = vec![false; range.len()];
                    split.copy_mask(range.start, &mut learned);
                    let ids = split.document(2 * pair + which);
                    let of = |is_learned: bool| {
                        let ids = ids.iter().zip(&learned).filter(|(_, learned)| **learned == is_learned);
                        tokenizer.decode(&ids.map(|(id, _)| *id).collect::<Vec<u32>>()).unwrap()
                    };
                    (of(false), of(true))
                });
                let [(prompt, chosen), (other_prompt, rejected)] = parts;
                assert_eq!(prompt, other_prompt);
                let number: usize = prompt.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
                assert!(chosen.starts_with(&format!("It is {}.", 2 * number)), "{chosen:?}");
                assert!(rejected.starts_with(&format!("No idea, {number} ")), "{rejected:?}");
            }
        }
        assert_eq!(pairs, 40);
    };
    run(&config, &preferences(40), check).unwrap();
}

#[test]
fn a_split_of_preferences_and_other_documents_is_an_error() {
    let mut chats = preferences(20);
    chats.iter_mut().skip(10).for_each(|chat| drop(chat.pop()));
    let error = run(&short(), &chats, |_| ()).unwrap_err();
    assert!(matches!(error, Error::MixedPairs { split: "train" }), "{error}");
}
