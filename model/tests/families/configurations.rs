//! Configurations that are read, and values that are not supported.

use model::{ModelConfig, RopeScaling};
use serde_json::{Value, json};

use super::{folder, read_json};

#[test]
fn unsupported_values_are_named() {
    let check = |name: &str, key: &str, value: Value, expected: &str| {
        let mut config = read_json(&folder(name).join("config.json"));
        config[key] = value;
        let found = ModelConfig::from_hugging_face(&config).unwrap_err().to_string();
        assert_eq!(found, expected, "{name}");
    };
    let longrope = json!({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]});
    let only = "is not supported, only default, linear, llama3, yarn and dynamic";
    check("phi3", "rope_parameters", longrope, &format!("rope_parameters: rope_type: `longrope` {only}"));
    let su = json!({"type": "su", "short_factor": [1.0], "long_factor": [1.0]});
    check("phi3", "rope_scaling", su, &format!("rope_scaling: rope_type: `su` {only}"));
    let yarn = json!({"rope_type": "yarn", "factor": 2.0});
    check("phi3", "rope_scaling", yarn, "rope_scaling: rope_type: only `default` is supported in phi3");
    let partial = json!({"rope_type": "default", "partial_rotary_factor": 0.1});
    check("mistral-full", "partial_rotary_factor", json!(0.5), "partial_rotary_factor: 0.5 is not supported, only 1.0");
    check("phi3", "rope_parameters", partial, "rotary_dim: 0 is not an even number up to head_dim = 8");
    check("mistral", "attention_bias", json!(true), "attention_bias: true is not supported, only false");
    check("mistral", "sliding_window", json!(0), "sliding_window: 0 is not a number of tokens");
    let full = json!(["sliding_attention", "full_attention"]);
    let disagrees = "does not agree with the sliding window of this model";
    check("mistral", "layer_types", full, &format!("layer_types: \"full_attention\" {disagrees}"));
    check(
        "qwen2-window",
        "use_sliding_window",
        json!(false),
        &format!("layer_types: \"sliding_attention\" {disagrees}"),
    );
    let chunked = json!(["chunked_attention", "full_attention"]);
    let unknown = "layer_types: \"chunked_attention\" is not supported, only full_attention and sliding_attention";
    check("qwen2-window", "layer_types", chunked, unknown);
    let short = json!(["full_attention"]);
    check("gemma2-biases", "layer_types", short, "layer_types: [\"full_attention\"] does not describe 2 layers");
    let relu = "hidden_activation: \"relu\" is not supported, only \"gelu_pytorch_tanh\"";
    check("gemma2", "hidden_activation", json!("relu"), relu);
    check("gemma2", "final_logit_softcapping", json!(-1.0), "logit_softcap: -1 is not a positive number");
    check(
        "gemma2",
        "use_bidirectional_attention",
        json!(true),
        "use_bidirectional_attention: true is not supported, only false",
    );
    check("gemma3", "attn_logit_softcapping", json!(50.0), "attn_logit_softcapping: 50.0 is not supported, only null");
    let flat = "rope_parameters: `rope_type` is not one of full_attention, sliding_attention, which have a table each";
    check("gemma3", "rope_parameters", json!({"rope_type": "default"}), flat);
    let local = json!({"sliding_attention": {"rope_type": "linear", "factor": 2.0}});
    let scaled = "rope_parameters: sliding_attention: only the rope_type `default` is supported";
    check("gemma3", "rope_parameters", local, scaled);
    check("smollm3", "no_rope_layers", json!([1, 2, 1]), "no_rope_layers: 2 is neither 0 nor 1");
    check("smollm3", "no_rope_layers", json!([1]), "no_rope_layers: [1] does not describe 3 layers");
    check("olmo2", "sliding_window", json!(8), "sliding_window: 8 is not supported, only null");
    check("olmo2", "hidden_act", json!("gelu"), "hidden_act: \"gelu\" is not supported, only \"silu\"");
    check(
        "llama-yarn",
        "layer_types",
        json!(["sliding_attention", "full_attention"]),
        "layer_types: \"sliding_attention\" is not supported",
    );
    let factor = json!({"rope_type": "dynamic", "factor": 0.5});
    check("llama-dynamic", "rope_parameters", factor, "rope_scaling: factor 0.5 is below 1");
    let beta = json!({"rope_type": "dynamic", "factor": 2.0, "beta_fast": 3});
    let surplus = "rope_parameters: rope_type: `beta_fast` = 3 has no meaning in `dynamic`";
    check("llama-dynamic", "rope_parameters", beta, surplus);
}

#[test]
fn published_configurations_are_read() {
    let check = |config: Value, expected: &str| {
        let config = ModelConfig::from_hugging_face(&config).unwrap();
        let windows: String = (0..config.n_layer).map(|i| if config.layer(i).sliding { 's' } else { 'f' }).collect();
        let rotary: String = (0..config.n_layer).map(|i| if config.layer(i).rotary { 'r' } else { 'n' }).collect();
        let head = (config.n_kv_head, config.head_dim, config.rotary_dim());
        let found = format!(
            "{:?} {windows} {rotary} {head:?} {:?} {:?} {:?} tied {}",
            config.sliding_window,
            config.attention_softcap,
            config.logit_softcap,
            config.local_rope_theta,
            config.tied_embeddings
        );
        assert_eq!(found, expected);
    };
    let sizes = |model_type: &str, more: Value| {
        let mut config = json!({
            "model_type": model_type, "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 4, "num_attention_heads": 8, "max_position_embeddings": 64,
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    check(sizes("mistral", json!({})), "Some(4096) ssss rrrr (8, 8, 8) None None None tied false");
    check(sizes("mistral", json!({"sliding_window": null})), "None ffff rrrr (8, 8, 8) None None None tied false");
    check(
        sizes("gemma2", json!({"hidden_act": "gelu"})),
        "Some(4096) sfsf rrrr (4, 256, 256) Some(50.0) Some(30.0) None tied true",
    );
    let linear = json!({"factor": 8.0, "rope_type": "linear"});
    let gemma3 = json!({"sliding_window": 512, "sliding_window_pattern": 3, "rope_scaling": linear});
    check(sizes("gemma3_text", gemma3), "Some(512) ssfs rrrr (4, 256, 256) None None Some(10000.0) tied true");
    let phi = json!({"partial_rotary_factor": 0.5, "original_max_position_embeddings": 64, "rope_scaling": null});
    check(sizes("phi3", phi), "None ffff rrrr (8, 8, 4) None None None tied false");
    check(sizes("smollm3", json!({})), "None ffff rrrn (4, 8, 8) None None None tied true");
    let window = json!({"use_sliding_window": true, "sliding_window": 16, "no_rope_layer_interval": 2});
    check(sizes("smollm3", window), "Some(16) fsfs rnrn (4, 8, 8) None None None tied true");
    let qwen =
        json!({"num_key_value_heads": 2, "use_sliding_window": false, "sliding_window": 16, "max_window_layers": 2});
    check(sizes("qwen2", qwen), "None ffff rrrr (2, 8, 8) None None None tied false");
    check(sizes("olmo2", json!({})), "None ffff rrrr (8, 8, 8) None None None tied false");
    let yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16});
    let yarn = json!({"num_key_value_heads": 2, "rope_scaling": yarn});
    let yarn = ModelConfig::from_hugging_face(&sizes("qwen2", yarn)).unwrap();
    let Some(RopeScaling::Yarn { attention_factor, .. }) = yarn.rope_scaling else { panic!("{:?}", yarn.rope_scaling) };
    assert!((attention_factor - 1.138_629_436_111_989).abs() < 1e-12, "{attention_factor}");
}
