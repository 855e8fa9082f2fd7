//! Keys that were renamed: the old name is accepted for one release.

use toml_edit::{DocumentMut, Item, TableLike};

/// Moves the value at the dotted path `old` to `new`. Returns true if there was one.
///
/// # Errors
/// Returns a message if both are present.
pub(crate) fn rename(document: &mut DocumentMut, old: &str, new: &str) -> Result<bool, String> {
    let Some(item) = table(document, old, false).and_then(|(table, key)| table.get(key).cloned()) else {
        return Ok(false);
    };
    if table(document, new, false).is_some_and(|(table, key)| table.contains_key(key)) {
        return Err(format!("`{old}` is the old name of `{new}`, and both are given; remove `{old}`"));
    }
    if let Some((table, key)) = table(document, old, false) {
        table.remove(key);
    }
    match table(document, new, true) {
        Some((table, key)) => table.insert(key, item),
        None => return Err(format!("`{old}` is now `{new}`, which cannot be set here")),
    };
    Ok(true)
}

/// Returns the table that holds the last part of `path`, and that part; creates the tables on the way if `create`.
fn table<'d, 'p>(
    document: &'d mut DocumentMut,
    path: &'p str,
    create: bool,
) -> Option<(&'d mut dyn TableLike, &'p str)> {
    let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for part in parents.split('.').filter(|part| !part.is_empty()) {
        if create && !table.contains_key(part) {
            let mut implicit = toml_edit::Table::new();
            implicit.set_implicit(true);
            table.insert(part, Item::Table(implicit));
        }
        table = table.get_mut(part)?.as_table_like_mut()?;
    }
    Some((table, key))
}
