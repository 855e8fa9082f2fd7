//! Which files make a model in the Hugging Face layout.

/// The weights where they are in one file, and the list of the files they are in where there are several.
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Files that are taken where they are there, beside `config.json` and the weights.
pub const BESIDE_WEIGHTS: [&str; 6] = [
    "tokenizer.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// Endings of files that hold weights in a form that is not read: pickles can run programs when they are read, and the
/// others belong to other programs.
const OTHER_WEIGHTS: [&str; 8] = [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".gguf"];

/// Returns the files of a model among the names of a folder or a repository, sorted; or what is missing, as the end of a
/// sentence that begins with where it is.
///
/// # Errors
/// When a file is missing that no model does without.
pub fn choose(names: &[&str]) -> Result<Vec<String>, String> {
    let has = |name: &str| names.contains(&name);
    if !has("config.json") {
        return Err(if has("adapter_config.json") {
            "is an adapter of another model (adapter_config.json); name that model".to_owned()
        } else {
            "is no model in the Hugging Face layout: it has no config.json".to_owned()
        });
    }
    let weights: Vec<&str> = if has(WEIGHTS) {
        vec![WEIGHTS]
    } else if has(INDEX) {
        names.iter().copied().filter(|name| *name == INDEX || is_shard(name)).collect()
    } else {
        return Err(without_weights(names));
    };
    if !has("tokenizer.json") {
        let remedy = "AutoTokenizer.from_pretrained(…).save_pretrained(…) of transformers writes one";
        return Err(format!("has no tokenizer.json; {remedy}"));
    }
    let others = BESIDE_WEIGHTS.into_iter().filter(|name| has(name));
    let mut chosen: Vec<String> = ["config.json"].into_iter().chain(weights).chain(others).map(str::to_owned).collect();
    chosen.sort_unstable();
    Ok(chosen)
}

/// Tells whether a name is that of a model's weights, or of the list of the files they are in.
pub fn is_weights(name: &str) -> bool {
    name == WEIGHTS || name == INDEX || is_shard(name)
}

/// Tells whether a name is that of one of several files of weights: `model-00001-of-00002.safetensors`.
fn is_shard(name: &str) -> bool {
    let numbers = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    numbers.and_then(|numbers| numbers.split_once("-of-")).is_some_and(|(number, count)| {
        [number, count].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn without_weights(names: &[&str]) -> String {
    let other = names.iter().find(|name| !name.contains('/') && OTHER_WEIGHTS.iter().any(|end| name.ends_with(end)));
    match other {
        Some(other) => format!(
            "has no safetensors, only {other}, which is not read; save it again with transformers \
             (`save_pretrained(…, safe_serialization=True)`), or take a revision that has {WEIGHTS}"
        ),
        None => format!("has no safetensors: neither {WEIGHTS} nor {INDEX}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], expected: Result<&[&str], &str>) {
        let found = choose(names);
        let expected = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        match (found, expected) {
            (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
            (found, expected) => assert_eq!(found, expected.map_err(str::to_owned), "{names:?}"),
        }
    }

    #[test]
    fn the_files_of_a_model_are_chosen_and_the_others_left() {
        let one = ["config.json", "model.safetensors", "tokenizer.json"];
        check(&one, Ok(&one));
        check(&["onnx/model.onnx", "README.md", "config.json", "model.safetensors", "tokenizer.json"], Ok(&one));
        let both = ["config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json"];
        check(&both, Ok(&one));
        let sharded = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
        ];
        check(&sharded, Ok(&sharded));
        let more = [&sharded[..], &["model-fp16.safetensors", "consolidated.safetensors"]].concat();
        check(&more, Ok(&sharded));
        let chat =
            ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"];
        check(&chat, Ok(&chat));
    }

    #[test]
    fn what_is_missing_is_named() {
        check(&[], Err("is no model in the Hugging Face layout: it has no config.json"));
        check(&["adapter_config.json", "adapter_model.safetensors"], Err("is an adapter of another model"));
        check(&["config.json", "tokenizer.json"], Err("has no safetensors: neither"));
        check(&["config.json", "pytorch_model.bin"], Err("has no safetensors, only pytorch_model.bin, which is not"));
        check(&["config.json", "model.safetensors", "vocab.json"], Err("has no tokenizer.json; AutoTokenizer"));
    }
}
