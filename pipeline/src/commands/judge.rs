//! `judge`: asks a person which of two anonymous answers is better, and rates models by the votes.

mod page;

use std::io::{BufRead, IsTerminal, Read};

use anyhow::{Context as _, bail, ensure};
use console::{Key, Term};
use generate::{Generator, Prompt};

use crate::cli::judge::JudgeArgs;
use crate::config::Config;
use crate::judge::duels::{Duel, Duels, Player};
use crate::judge::table::Table;
use crate::judge::votes::Votes;
use crate::judge::{Choice, Judging};
use crate::run::answers;
use crate::ui::console::{Console, printable};

use super::generator::configured;
use super::{print_now, print_out};

/// Runs the command.
pub fn run(arguments: &JudgeArgs) -> anyhow::Result<()> {
    super::log_to(&Console::new(), "");
    let layout = super::layout(&arguments.store)?;
    let votes = Votes::open(&layout.votes())?;
    let (Some(a), Some(b)) = (&arguments.a, &arguments.b) else {
        return table(&votes, arguments.json);
    };
    let keys = Keys::of(arguments)?;
    let seed = arguments.sampling.seed.unwrap_or(0);
    let [a, b] = [player(a, arguments, seed)?, player(b, arguments, seed)?];
    ensure!(a.0.digest != b.0.digest, "{} and {} are the same model", a.0.name, b.0.name);
    let mut prompts = prompts(arguments, [&a.1, &b.1])?;
    prompts.truncate(arguments.limit.unwrap_or(usize::MAX));
    let mut judging = Judging::new(Duels::begin([a.0, b.0], &prompts, seed, &votes), votes);
    match keys {
        None => page::serve(judging, arguments.port),
        Some(keys) => judge(&mut judging, &keys),
    }
}

fn table(votes: &Votes, json: bool) -> anyhow::Result<()> {
    let table = Table::of(votes.all());
    if json {
        return Ok(print_out!("{:#}", serde_json::to_value(&table)?)?);
    }
    if table.models.is_empty() {
        return Ok(print_out!("no model was judged yet; `pipeline judge A B` does it")?);
    }
    Ok(print_out!("{}", table.text())?)
}

/// Opens a model, and returns it with its configuration.
fn player(name: &str, arguments: &JudgeArgs, seed: u64) -> anyhow::Result<(Player, generate::Config)> {
    let model = super::model(name, &arguments.store)?;
    // A tag may be moved to another run later.
    let name = model.run.as_ref().map_or(name, |run| &run.record.name).to_owned();
    let digest = answers::model_digest(model.folder.path())?;
    let is_of_run = model.config.is_some();
    let Config { device, generate, .. } = model.config.unwrap_or_default();
    let device = arguments.device.as_ref().unwrap_or(&device);
    let mut config = configured(generate, &arguments.sampling, arguments.chat);
    let generator = Generator::open_with_cache(model.folder.path(), device, |shape| config.cache(shape))?;
    let options = config.options(generator.declared_sampling(), seed);
    if !is_of_run {
        // It has no prompts of its own.
        config.prompts = Some(Vec::new());
    }
    Ok((Player { name, digest, generator, options }, config))
}

/// Returns the prompts of the arguments, else of the first configuration that has some. Both models get the same.
fn prompts(arguments: &JudgeArgs, configs: [&generate::Config; 2]) -> anyhow::Result<Vec<Prompt>> {
    let prompt = |text: String| configs[0].prompt(text);
    if let Some(path) = &arguments.prompts {
        let prompts = if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).context("cannot read the prompts from standard input")?;
            let text =
                String::from_utf8(generate::unmarked(&bytes).into_owned()).context("the prompts are not UTF-8")?;
            text.lines().filter(|line| !line.is_empty()).map(|line| prompt(line.to_owned())).collect()
        } else {
            generate::read_prompts(path, &prompt)?
        };
        ensure!(!prompts.is_empty(), "{} has no prompt: write one per line", path.display());
        return Ok(prompts);
    }
    for config in configs {
        let mut prompts: Vec<Prompt> = config.inline_prompts().into_iter().map(prompt).collect();
        if let Some(file) = &config.prompts_file {
            prompts.extend(generate::read_prompts(file.as_ref(), &prompt)?);
        }
        if !prompts.is_empty() {
            return Ok(prompts);
        }
    }
    bail!("there are no prompts: name a file with --prompts")
}

/// Where the choices come from.
enum Keys {
    /// Single keys of a terminal.
    Terminal(Term),
    /// Lines of standard input.
    Lines,
}

/// What a person answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Choice(Choice),
    Quit,
}

impl Keys {
    /// Returns where the choices come from; none for a page.
    fn of(arguments: &JudgeArgs) -> anyhow::Result<Option<Self>> {
        let reads_prompts = arguments.prompts.as_ref().is_some_and(|path| path.as_os_str() == "-");
        if arguments.page {
            return Ok(None);
        }
        if std::io::stdout().is_terminal() && (reads_prompts || std::io::stdin().is_terminal()) {
            return Ok(Some(Self::Terminal(Term::stdout())));
        }
        ensure!(!reads_prompts, "standard input has the prompts: judge in a terminal, or with --page");
        Ok(Some(Self::Lines))
    }

    /// Returns the next answer; at the end of the input, to quit.
    fn read(&self) -> anyhow::Result<Reply> {
        loop {
            let reply = match self {
                Self::Terminal(terminal) => match terminal.read_key().context("cannot read a key")? {
                    Key::ArrowLeft => reply("left"),
                    Key::ArrowRight => reply("right"),
                    Key::Escape => Some(Reply::Quit),
                    Key::Char(key) => reply(key.encode_utf8(&mut [0; 4])),
                    _ => None,
                },
                Self::Lines => {
                    let mut line = String::new();
                    match std::io::stdin().lock().read_line(&mut line).context("cannot read standard input")? {
                        0 => Some(Reply::Quit),
                        _ => reply(line.trim()),
                    }
                }
            };
            match reply {
                Some(reply) => return Ok(reply),
                None => print_now("\n(l)eft, (r)ight, (t)ie, (s)kip or (q)uit: ")?,
            }
        }
    }
}

/// Returns what a word or its first letter means.
fn reply(text: &str) -> Option<Reply> {
    Some(match text.to_lowercase().as_str() {
        "l" | "left" => Reply::Choice(Choice::Left),
        "r" | "right" => Reply::Choice(Choice::Right),
        "t" | "tie" => Reply::Choice(Choice::Tie),
        "s" | "skip" => Reply::Choice(Choice::Skip),
        "q" | "quit" => Reply::Quit,
        _ => return None,
    })
}

/// Asks pair after pair in the terminal, then prints the ratings.
fn judge(judging: &mut Judging, keys: &Keys) -> anyhow::Result<()> {
    loop {
        let (done, total) = judging.progress();
        let Some(duel) = judging.ask()? else { break };
        show(duel, done + 1, total)?;
        print_now("\n← (l)eft is better   → (r)ight is better   (t)ie   (s)kip   (q)uit: ")?;
        let reply = keys.read()?;
        print_now("\n")?;
        match reply {
            Reply::Choice(choice) => judging.choose(choice)?,
            Reply::Quit => break,
        }
    }
    let (done, total) = judging.progress();
    print_out!("{done} of {total} pairs; all votes of this store:\n")?;
    table(judging.votes(), false)
}

fn show(duel: &Duel, number: usize, total: usize) -> anyhow::Result<()> {
    print_out!("\n━━ {number} of {total} ━━ prompt")?;
    print_out!("{}", printable(&duel.prompt))?;
    for (name, answer) in ["← left", "right →"].into_iter().zip(&duel.sides) {
        print_out!("\n── {name}")?;
        print_out!("{}", printable(&answer.text))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_their_first_letters_are_replies() {
        for (text, expected) in [
            ("l", Some(Reply::Choice(Choice::Left))),
            ("RIGHT", Some(Reply::Choice(Choice::Right))),
            ("tie", Some(Reply::Choice(Choice::Tie))),
            ("s", Some(Reply::Choice(Choice::Skip))),
            ("Q", Some(Reply::Quit)),
            ("", None),
            ("lr", None),
        ] {
            assert_eq!(reply(text), expected, "{text}");
        }
    }
}
