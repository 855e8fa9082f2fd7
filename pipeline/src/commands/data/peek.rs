//! `data peek`: pages through the documents of a dataset.

use anyhow::bail;
use artifact::format::grouped;
use preprocess::inspect;

use super::corpus::corpus;
use super::dropped::printable;
use crate::cli::data::PeekArgs;
use crate::commands::print_out;
use artifact::format;

/// Characters of a document that a page shows.
const SHOWN_CHARACTERS: usize = 600;

/// Runs the command.
pub fn run(arguments: &PeekArgs) -> anyhow::Result<()> {
    let (corpus, _) = corpus(&arguments.corpus)?;
    let page = arguments.page.max(1);
    let skip = (page - 1) * arguments.count;
    let (documents, total) = inspect::documents(&corpus, skip, arguments.count)?;
    if documents.is_empty() {
        bail!("page {page} is past the end: there are {} documents", grouped(total as u64));
    }
    for document in &documents {
        print_out!(
            "{}\n  source {}, licence {}, {}",
            printable(&document.id),
            printable(&document.source),
            printable(&document.licence),
            format::bytes(document.bytes)
        )?;
        let most = if arguments.full { usize::MAX } else { SHOWN_CHARACTERS };
        let shown: String = document.text.chars().take(most).collect();
        for line in shown.lines() {
            print_out!("  | {}", printable(line))?;
        }
        if shown.len() < document.text.len() {
            print_out!("  …")?;
        }
        print_out!("")?;
    }
    print_out!("{} to {} of {}", skip + 1, skip + documents.len(), grouped(total as u64))?;
    if skip + documents.len() < total {
        print_out!("next: --page {}", page + 1)?;
    }
    Ok(())
}
