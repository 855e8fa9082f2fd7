//! Globs in which a file's own name goes before the meaning of its characters.

use globset::GlobSet;

use crate::Error;

/// Patterns, each a glob or, if a file has that very name, that name.
#[derive(Debug, Clone)]
pub(crate) struct Globs {
    /// Where they are declared.
    key: String,
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// The glob, or why it is none.
    glob: Result<GlobSet, String>,
    /// The pattern as a name, if that is another one.
    literal: Option<GlobSet>,
}

impl Globs {
    /// Compiles globs; `key` is where they are declared.
    pub fn new(patterns: &[String], key: &str) -> Result<Self, Error> {
        let compile = |pattern: String| fetch::glob_set(&[pattern]).map_err(|e| e.to_string());
        let pattern = |pattern: &String| {
            let literal = without_classes(pattern).and_then(|literal| compile(literal).ok());
            match (compile(pattern.clone()), literal) {
                (Err(message), None) => Err(Error::value(key, &message)),
                (glob, literal) => Ok(Pattern { glob, literal }),
            }
        };
        Ok(Self { key: key.to_owned(), patterns: patterns.iter().map(pattern).collect::<Result<_, Error>>()? })
    }

    /// Decides which patterns are names of files: those that `names` has.
    pub fn settle(&mut self, names: &[&str]) -> Result<(), Error> {
        for Pattern { glob, literal } in &mut self.patterns {
            match literal.take_if(|named| names.iter().any(|name| named.is_match(name))) {
                Some(named) => *glob = Ok(named),
                None => *literal = None,
            }
            if let Err(message) = glob {
                return Err(Error::value(&self.key, message));
            }
        }
        Ok(())
    }

    pub fn is_match(&self, name: &str) -> bool {
        let is_one = |Pattern { glob, literal }: &Pattern| {
            let mut sets = glob.iter().chain(literal);
            sets.any(|set| set.is_match(name))
        };
        self.patterns.iter().any(is_one)
    }
}

/// Returns a glob in which `[`, `]`, `{` and `}` mean themselves; none if it has none of them, or has escapes.
fn without_classes(pattern: &str) -> Option<String> {
    let is_special = |c: char| matches!(c, '[' | ']' | '{' | '}');
    if !pattern.contains(is_special) || pattern.contains(['\\']) {
        return None;
    }
    let mut literal = String::with_capacity(pattern.len() + 8);
    for c in pattern.chars() {
        match c {
            c if is_special(c) => literal.extend(['[', c, ']']),
            c => literal.push(c),
        }
    }
    Some(literal)
}
