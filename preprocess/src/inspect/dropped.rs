//! Dropped documents, with the reason and the measurements.

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, StringArray};
use artifact::Sealed;

use super::{Rows, config_of, steps_of};
use crate::Error;
use crate::config::Step;
use crate::engine::corpus;
use crate::engine::parquet::Table;
use crate::engine::record::Body;
use crate::engine::steps::FAILED;

/// A dropped document.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropped {
    /// Its name in the corpus, with the number of the piece if it was cut.
    pub name: String,
    /// The source it came from.
    pub source: String,
    /// The step that dropped it.
    pub reason: String,
    /// The criterion of that step it did not meet, if the step has several.
    pub criterion: Option<String>,
    /// The measurements of that step: `("words", 12.0)`.
    pub figures: Vec<(String, f64)>,
    /// What else it found: `("language", "deu")`.
    pub texts: Vec<(String, String)>,
    /// The document that was kept in its place.
    pub duplicate_of: Option<String>,
    /// The number of tokens it would have.
    pub tokens: u64,
    /// Its text in the corpus, before the first step.
    pub text: String,
}

/// Returns up to `count` of the documents that step `by` (`None`: any step) dropped, after the first `skip`, and the
/// number of all of them.
///
/// # Errors
/// Returns an error if `by` is not a step of the run, or if the signals or the corpus cannot be read.
pub fn dropped(
    tokens: &Sealed,
    corpus: &Sealed,
    by: Option<Step>,
    skip: usize,
    count: usize,
) -> Result<(Vec<Dropped>, usize), Error> {
    let mut rows = Rows::open(tokens)?;
    let steps = steps_of(&config_of(tokens)?, &rows);
    if let Some(step) = by.filter(|step| !steps.contains(step)) {
        let known: Vec<&str> = steps.iter().map(|step| step.name()).collect();
        let problem = format!("does not have \"{}\": the steps of the run were {}", step.name(), known.join(", "));
        return Err(Error::config("preprocess.steps", problem));
    }
    let (mut found, mut total, mut row_of_corpus) = (Vec::new(), 0, 0);
    while let Some((_, table)) = rows.next(None)? {
        page(&table, by, (skip, count), &mut total, &mut row_of_corpus, &mut found)?;
    }
    let places: Vec<usize> = found.iter().map(|(row, _)| *row).collect();
    let contents = contents(corpus, &places)?;
    let documents = found.into_iter().zip(contents).map(|((_, document), text)| Dropped { text, ..document });
    Ok((documents.collect(), total))
}

fn page(
    table: &Table,
    by: Option<Step>,
    (skip, count): (usize, usize),
    total: &mut usize,
    row_of_corpus: &mut usize,
    found: &mut Vec<(usize, Dropped)>,
) -> Result<(), Error> {
    let (ids, pieces, sources) = (table.texts("id")?, table.numbers("piece")?, table.texts("source")?);
    let (reasons, duplicates) = (table.texts("reason")?, table.texts("duplicate_of")?);
    let tokens = table.numbers("tokens")?;
    let owned = |texts: &StringArray, at: usize| texts.is_valid(at).then(|| texts.value(at).to_owned());
    for at in 0..table.len() {
        let piece = pieces.value(at) as u32;
        if piece == 0 {
            *row_of_corpus += 1;
        }
        let Some(reason) = owned(&reasons, at).filter(|reason| by.is_none_or(|by| by.name() == reason)) else {
            continue;
        };
        *total += 1;
        if *total <= skip || found.len() >= count {
            continue;
        }
        let (mut figures, mut found_texts, mut criterion) = (Vec::new(), Vec::new(), None);
        for (name, column) in table.columns() {
            let Some((_, signal)) = name.split_once('.').filter(|(step, _)| *step == reason) else { continue };
            if signal == FAILED {
                criterion = owned(&table.texts(name)?, at);
            } else if let Some(values) = column.as_primitive_opt::<Float64Type>().filter(|v| v.is_valid(at)) {
                figures.push((signal.to_owned(), values.value(at)));
            } else if let Some(text) = column.as_string_opt::<i32>().and_then(|texts| owned(texts, at)) {
                found_texts.push((signal.to_owned(), text));
            }
        }
        let document = Dropped {
            name: crate::output::signals::name_of(ids.value(at), piece),
            source: sources.value(at).to_owned(),
            reason,
            criterion,
            figures,
            texts: found_texts,
            duplicate_of: owned(&duplicates, at),
            tokens: tokens.value(at) as u64,
            text: String::new(),
        };
        found.push((*row_of_corpus - 1, document));
    }
    Ok(())
}

/// Returns the texts of rows of the corpus, numbered over all its files. `rows` is in ascending order.
fn contents(corpus: &Sealed, rows: &[usize]) -> Result<Vec<String>, Error> {
    let mut contents = Vec::with_capacity(rows.len());
    let mut first = 0;
    for name in corpus::files(corpus) {
        if contents.len() == rows.len() {
            break;
        }
        let reader = corpus::Reader::open(corpus, &name)?;
        for (start, count) in reader.row_groups() {
            let wanted: Vec<usize> =
                rows[contents.len()..].iter().copied().take_while(|row| *row < first + count).collect();
            if !wanted.is_empty() {
                let read = reader.rows((start, count))?;
                contents.extend(wanted.iter().map(|row| match &read[row - first].content {
                    corpus::Content::Body(Body::Text(text)) => text.clone(),
                    corpus::Content::Body(body) => body.text().into_owned(),
                    corpus::Content::Raw(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                }));
            }
            first += count;
        }
    }
    Ok(contents)
}
