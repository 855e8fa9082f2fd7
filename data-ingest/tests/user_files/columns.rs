//! Columns of any name.

use data_ingest::Source;

use crate::{check, some};

const FORM: &str = "Timestamp,What is your question?,Best answer (text),a.b,{x},E-mail,class,日本 語,\"say \"\"hi\"\"\"\n\
                    9:00,Why?,So.,dot,brace,at,a,jp,quote\n";

#[test]
fn a_template_names_any_column() {
    let renders = |template: &str, expected: &str| {
        let source = Source { template: some(template), ..Source::default() };
        check("form.csv", FORM.as_bytes(), source, &[&format!("s/form.csv#1: {expected}")]);
    };
    renders("Q: {{ row[\"What is your question?\"] }} A: {{ row['Best answer (text)'] }}", "Q: Why? A: So.");
    renders("Q: {{ What is your question? }} A: {{- Best answer (text) -}} !", "Q: Why? A:So.!");
    renders("{{ row['a.b'] }} {{ row[\"{x}\"] }} {{ row['E-mail'] }} {{ row['日本 語'] }}", "dot brace at jp");
    renders("{{ row[\"say \\\"hi\\\"\"] }} {{ class }}", "quote a");
    renders(
        "{% if row['a.b'] == 'dot' %}{{ row['a.b'] | upper ~ class }}{% endif %}",
        "DOT~a".replace('~', "").as_str(),
    );
    renders("{{ class }} {{ Timestamp }}", "a 9:00");
}

#[test]
fn column_keys_name_any_column() {
    for (column, expected) in [("Best answer (text)", "So."), ("a.b", "dot"), ("{x}", "brace"), ("日本 語", "jp")] {
        let source = Source { text_column: some(column), id_column: some("say \"hi\""), ..Source::default() };
        check("form.csv", FORM.as_bytes(), source, &[&format!("s/quote: {expected}")]);
    }
    let line = br#"{"What is it?": "text", "a.b": 7}"#;
    let source = || Source { text_column: some("What is it?"), id_column: some("a.b"), ..Source::default() };
    check("a.jsonl", line, source(), &["s/7: text"]);
    check("a.json", line, source(), &["s/7: text"]);
}

#[test]
fn errors_say_how_a_column_is_named() {
    let source = |template: &str| Source { template: some(template), ..Source::default() };
    let wrong = "collect.sources[0].template: syntax error: unexpected end of string \
                 (line 1); a column of any name is written {{ row[\"What is it?\"] }}";
    check("form.csv", FORM.as_bytes(), source("{{ What's \"it\" }}"), &[wrong]);
    let missing = "<base>/form.csv has no column `E`; it has `Timestamp`, `What is your question?`, `Best answer \
                   (text)`, `a.b`, `{x}`, `E-mail`, `class`, `日本 語`, `say \"hi\"` (in a template, a column of any \
                   name is written {{ row[\"What is your question?\"] }}): set the source's `text_column` or \
                   `template`; or leave the file out with `exclude`, and give it a source of its own";
    check("form.csv", FORM.as_bytes(), source("{{ E-mail }}"), &[missing]);
}
