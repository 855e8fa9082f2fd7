//! YAML as JSON, as far as task files need it.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Number, Value};

/// Returns the only document of a text, whose keys are strings.
///
/// # Errors
/// Returns the problem: a syntax error, a tag such as `!function`, or what JSON cannot express.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let documents = Yaml::load_from_str(text).map_err(|error| error.to_string())?;
    match documents.as_slice() {
        [document] => value(document),
        documents => Err(format!("it has {} documents instead of one", documents.len())),
    }
}

fn value(yaml: &Yaml<'_>) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(flag)) => (*flag).into(),
        Yaml::Value(Scalar::Integer(number)) => (*number).into(),
        Yaml::Value(Scalar::FloatingPoint(number)) => {
            let number = number.into_inner();
            Number::from_f64(number).ok_or_else(|| format!("{number} is not finite"))?.into()
        }
        Yaml::Value(Scalar::String(text)) => text.as_ref().into(),
        Yaml::Sequence(items) => Value::Array(items.iter().map(value).collect::<Result<_, _>>()?),
        Yaml::Mapping(entries) => {
            let mut fields = Map::new();
            for (key, item) in entries {
                let key = key.as_str().ok_or_else(|| format!("the key {key:?} is not a string"))?;
                if key == "<<" {
                    return Err("`<<` is not supported: write the merged keys out".to_owned());
                }
                fields.insert(key.to_owned(), value(item)?);
            }
            Value::Object(fields)
        }
        Yaml::Tagged(tag, _) if tag.suffix == "function" => {
            return Err("`!function` needs Python: write what it returns as a template or into the data".to_owned());
        }
        Yaml::Tagged(tag, _) => return Err(format!("the tag `{tag}` is not supported")),
        Yaml::Representation(..) | Yaml::Alias(_) | Yaml::BadValue => {
            return Err("a value cannot be read".to_owned());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_read_as_json() {
        let check = |text: &str, expected: &str| {
            let found = parse(text).map_or_else(|error| error, |value| value.to_string());
            assert_eq!(found, expected, "{text}");
        };
        check("a: 1\nb: [x, 'y', 2.5, true, ~]\n", r#"{"a":1,"b":["x","y",2.5,true,null]}"#);
        check("a: \"\\n\\n\"\nb: |\n  x\n  y\n", r#"{"a":"\n\n","b":"x\ny\n"}"#);
        check("a: &x {k: 1}\nb: *x\n", r#"{"a":{"k":1},"b":{"k":1}}"#);
        check(
            "process_docs: !function utils.process\n",
            "`!function` needs Python: write what it returns as a template or into the data",
        );
        check("a: &x {k: 1}\nb:\n  <<: *x\n", "`<<` is not supported: write the merged keys out");
        check("1: 2\n", "the key Value(Integer(1)) is not a string");
    }
}
