//! The published schema of `report.json`.

use super::*;

/// Returns where `value` differs from `schema`, in the subset of JSON Schema that the report's has.
fn violations(value: &Value, schema: &Value, root: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("no {reference}"));
        violations(value, target, root, path, found);
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(options) = schema[key].as_array() {
            let matches = |option: &&Value| {
                let mut found = Vec::new();
                violations(value, option, root, path, &mut found);
                found.is_empty()
            };
            if !options.iter().any(|option| matches(&option)) {
                found.push(format!("{path}: {value} is none of {key}"));
            }
        }
    }
    if let Some(all) = schema["allOf"].as_array() {
        for part in all {
            violations(value, part, root, path, found);
        }
    }
    let type_of = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allows = |name: &Value| name == type_of || (name == "number" && type_of == "integer");
    match &schema["type"] {
        Value::Null => {}
        Value::Array(names) if names.iter().any(allows) => {}
        name if allows(name) => {}
        other => found.push(format!("{path}: {type_of} is not {other}")),
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value))
        || schema.get("const").is_some_and(|constant| constant != value)
    {
        found.push(format!("{path}: {value} is not allowed"));
    }
    if let Value::Array(items) = value {
        for (at, item) in items.iter().enumerate().filter(|_| schema["items"].is_object()) {
            violations(item, &schema["items"], root, &format!("{path}[{at}]"), found);
        }
    }
    let Value::Object(fields) = value else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(name.as_str().unwrap()) {
            found.push(format!("{path} has no {name}"));
        }
    }
    for (name, field) in fields {
        let path = format!("{path}.{name}");
        let known = schema["properties"].get(name);
        match known.or(Some(&schema["additionalProperties"]).filter(|schema| schema.is_object())) {
            Some(schema) => violations(field, schema, root, &path, found),
            // Every field of an object that has properties is documented.
            None if schema["properties"].is_object() => found.push(format!("{path} is not documented")),
            None => {}
        }
    }
}

#[test]
fn reports_match_the_schema() {
    let run = inputs();
    let earlier = run.evaluate("earlier", &config(), &Context::quiet(3)).unwrap();
    let baseline = Baseline { run: "demo-001", report: &earlier };
    let sealed = run.evaluate_after(Some(baseline), "evaluate", &config(), &Context::quiet(3)).unwrap();
    let report: Value = serde_json::from_str(&text(&sealed, "report.json")).unwrap();
    let schema = evaluate::report_schema();
    let check = |report: &Value| {
        let mut found = Vec::new();
        violations(report, &schema, &schema, "report", &mut found);
        found
    };
    assert_eq!(check(&report), Vec::<String>::new());
    // The check finds what is wrong.
    let mut wrong = report;
    wrong["test"]["checkpoint"]["bits_per_byte"] = "many".into();
    wrong["samples"]["items"][0]["verdict"] = "unknown".into();
    wrong["risk"].as_object_mut().unwrap().remove("toxicity");
    wrong["extra"] = 1.into();
    assert!(check(&wrong).len() >= 4, "{:?}", check(&wrong));
}

#[test]
fn the_published_schema_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/report.schema.json");
    let published = fs::read_to_string(path).unwrap_or_default();
    let current = format!("{:#}\n", evaluate::report_schema());
    assert!(published == current, "run `just reference`");
}
