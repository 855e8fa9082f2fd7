//! `run`: brings every stage up to date and keeps a record.

use std::time::Instant;

use anyhow::Context as _;
use artifact::format;

use crate::cli::RunArgs;
use crate::config::Config;
use crate::run::perform::{Performed, Reuse, perform};
use crate::run::session::Session;
use crate::run::stage::{Artifacts, Stage};
use crate::ui::summary;

use super::print_out;

/// Runs the command.
pub fn run(arguments: &RunArgs) -> anyhow::Result<()> {
    let session = super::open(&arguments.config, true)?;
    let made = bring_up_to_date(arguments, &session)?;
    if arguments.serve {
        let bundle =
            made.get(&Stage::Optimize).context("--serve needs a bundle, but --until ends before stage optimize")?;
        let Config { serve, device, .. } = session.loaded.clone().into_config();
        let index = made.get(&Stage::Index).map(|index| index.folder().to_owned());
        let models = super::serve::one(bundle.folder(), index, &serve);
        super::serve::until_stopped(models, &serve, &device, &session.cancel)?;
    }
    Ok(())
}

fn bring_up_to_date(arguments: &RunArgs, session: &Session) -> anyhow::Result<Artifacts> {
    let started = Instant::now();
    let Performed { run, made, is_earlier } = perform(session, &arguments.selection, Reuse::Latest)?;
    if is_earlier {
        let one = made.len() == 1;
        print_out!(
            "Nothing to do: {} as run {} left {} ({}).",
            if one { "the one stage is".to_owned() } else { format!("all {} stages are", made.len()) },
            run.record.name,
            if one { "it" } else { "them" },
            format::seconds(started.elapsed().as_secs_f64())
        )?;
    } else {
        print_out!("\n{}", summary::table(&run))?;
        if let Some(compression) = made.get(&Stage::Evaluate).and_then(summary::bits_per_byte) {
            print_out!("\n{compression}")?;
        }
        print_out!("")?;
    }
    let config = &session.loaded.config;
    print_out!("{}", summary::what_next(&run, &super::program(), &super::name_of(&run), config))?;
    Ok(made)
}
