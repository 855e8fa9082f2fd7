//! The table `[parameters]`: the values that each key may take.

use toml::Value;

/// The most trials: heuristic, a sweep of more is a mistake in a grid.
pub const MAX_TRIALS: usize = 10_000;

/// A key that is wrong, and what is wrong with it.
pub type Wrong = (String, String);

/// The values of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// These.
    Choice(Vec<Value>),
    /// Those between two ends.
    Range {
        /// The lower end.
        min: f64,
        /// The upper end.
        max: f64,
        /// Whether factors count instead of differences.
        is_log: bool,
        /// Whether only whole numbers are meant.
        is_whole: bool,
        /// How many of them a grid has.
        points: Option<usize>,
    },
}

/// Returns the parameters of the table, whose keys may be dotted or nested.
///
/// # Errors
/// Returns the first key that is wrong, and what is wrong with it.
pub fn parse(table: &toml::Table) -> Result<Vec<(String, Values)>, Wrong> {
    fn walk(prefix: &str, table: &toml::Table, out: &mut Vec<(String, Values)>) -> Result<(), Wrong> {
        for (name, value) in table {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                Value::Table(table) if table.contains_key("min") || table.contains_key("max") => {
                    let range = range(table).map_err(|message| (path.clone(), format!("`{path}`: {message}")))?;
                    out.push((path, range));
                }
                Value::Table(table) => walk(&path, table, out)?,
                Value::Array(values) if !values.is_empty() => out.push((path, Values::Choice(values.clone()))),
                _ => {
                    let message = format!("`{path}` must be a list of values, or a table with min and max");
                    return Err((path, message));
                }
            }
        }
        Ok(())
    }
    let mut out = Vec::new();
    walk("", table, &mut out)?;
    Ok(out)
}

impl Values {
    /// Returns the values of a grid; none if the number of points is not given.
    pub fn grid(&self) -> Option<Vec<Value>> {
        match self {
            Self::Choice(values) => Some(values.clone()),
            Self::Range { points, .. } => {
                let points = (*points)?;
                let last = points.saturating_sub(1).max(1) as f64;
                let mut values: Vec<Value> = (0..points).map(|i| self.at(i as f64 / last)).collect();
                values.dedup();
                Some(values)
            }
        }
    }

    /// Returns the value at `place`, from 0 to 1: of a range, evenly in differences or factors; of a choice, in their
    /// order. Real numbers have four significant digits, as people would write them.
    pub fn at(&self, place: f64) -> Value {
        match self {
            Self::Choice(values) => {
                let i = (place * values.len() as f64) as usize;
                values[i.min(values.len() - 1)].clone()
            }
            Self::Range { min, max, is_log, is_whole, .. } => {
                let value = if *is_log { min * (max / min).powf(place) } else { min + (max - min) * place };
                if *is_whole {
                    return Value::Integer(value.round().clamp(*min, *max) as i64);
                }
                let rounded = format!("{value:.3e}").parse().unwrap_or(value);
                Value::Float(f64::clamp(rounded, *min, *max))
            }
        }
    }
}

fn range(table: &toml::Table) -> Result<Values, String> {
    if let Some(key) = table.keys().find(|key| !["min", "max", "scale", "points"].contains(&key.as_str())) {
        return Err(format!("unknown key `{key}`; a range has min, max, scale and points"));
    }
    let end = |name: &str| match table.get(name) {
        Some(Value::Integer(whole)) => Ok((*whole as f64, true)),
        Some(Value::Float(real)) if real.is_finite() => Ok((*real, false)),
        _ => Err(format!("{name} must be a number")),
    };
    let ((min, min_is_whole), (max, max_is_whole)) = (end("min")?, end("max")?);
    let is_log = match table.get("scale").map(|scale| scale.as_str()) {
        None | Some(Some("linear")) => false,
        Some(Some("log")) => true,
        Some(_) => return Err("scale must be \"linear\" or \"log\"".to_owned()),
    };
    let points = match table.get("points") {
        None => None,
        Some(Value::Integer(points)) if (2..=MAX_TRIALS as i64).contains(points) => Some(*points as usize),
        Some(_) => return Err(format!("points must be from 2 to {MAX_TRIALS}")),
    };
    if min >= max {
        return Err(format!("min is {min}, which is not below max, {max}"));
    }
    if is_log && min <= 0.0 {
        return Err(format!("scale = \"log\" needs a min above 0, not {min}"));
    }
    Ok(Values::Range { min, max, is_log, is_whole: min_is_whole && max_is_whole, points })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_divided_evenly() {
        let check = |values: Values, expected: &[&str]| {
            let found: Vec<String> = values.grid().unwrap().iter().map(Value::to_string).collect();
            assert_eq!(found, expected);
        };
        let range =
            |min, max, is_log, is_whole, points| Values::Range { min, max, is_log, is_whole, points: Some(points) };
        check(range(1e-4, 1e-2, true, false, 3), &["0.0001", "0.001", "0.01"]);
        check(range(0.0, 1.0, false, false, 5), &["0.0", "0.25", "0.5", "0.75", "1.0"]);
        check(range(2.0, 32.0, true, true, 5), &["2", "4", "8", "16", "32"]);
        check(range(1.0, 2.0, false, true, 9), &["1", "2"]);
        assert_eq!(Values::Choice(vec![1.into(), 2.into(), 3.into()]).at(0.999), 3.into());
    }
}
