//! The values of a configuration, and where each came from.

use std::collections::BTreeMap;

use evaluate::Setting;
use toml::Value;

use super::Loaded;

/// Returns every value of the resolved configuration, table by table.
///
/// # Errors
/// Returns an error if the configuration cannot be written as TOML.
pub fn values(loaded: &Loaded) -> Result<Vec<Setting>, toml::ser::Error> {
    let mut values = Vec::new();
    flatten("", &Value::try_from(&loaded.config)?, &loaded.origins, &mut values);
    Ok(values)
}

/// Adds the values below `key`, those of tables after the others.
fn flatten(key: &str, value: &Value, origins: &BTreeMap<String, String>, values: &mut Vec<Setting>) {
    let Value::Table(table) = value else {
        let origin = origins.get(key).cloned().unwrap_or_default();
        values.push(Setting { key: key.to_owned(), value: value.to_string(), origin });
        return;
    };
    for is_table in [false, true] {
        for (name, value) in table.iter().filter(|(_, value)| value.is_table() == is_table) {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            flatten(&key, value, origins, values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_origins_and_tables_come_last() {
        let value: Value = toml::from_str("a = { x = 1 }\nb = \"t\"\nc = [1, 2]").unwrap();
        let origins = BTreeMap::from([("a.x".to_owned(), "--set".to_owned()), ("c".to_owned(), "f.toml:3".to_owned())]);
        let mut values = Vec::new();
        flatten("", &value, &origins, &mut values);
        let found: Vec<[&str; 3]> = values.iter().map(|v| [&*v.key, &*v.value, &*v.origin]).collect();
        assert_eq!(found, [["b", "\"t\"", ""], ["c", "[1, 2]", "f.toml:3"], ["a.x", "1", "--set"]]);
    }
}
