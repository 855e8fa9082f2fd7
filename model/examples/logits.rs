//! Prints the logits and greedy tokens of a checkpoint as JSON, to compare them with another program's:
//! `cargo run --release -p model --example logits -- FOLDER COUNT < tokens.json`.
//!
//! Standard input is one list of token ids; the output has `logits` (a list for each token) and `greedy` (COUNT ids).

use std::error::Error;
use std::io::Read;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use model::{KvCache, checkpoint};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("give the folder of a checkpoint")?;
    let count: usize = arguments.next().map_or(Ok(50), |text| text.parse())?;
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let tokens: Vec<i64> = serde_json::from_str(&text)?;

    let device = Device::flex();
    let model = checkpoint::load(Path::new(&folder), &device)?;
    model.config().check_context(tokens.len())?;
    model.config().check_context(tokens.len() + count)?;
    let input = |ids: Vec<i64>| {
        let shape = vec![1, ids.len()];
        Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &device)
    };
    let logits: Vec<f32> = model.forward(input(tokens.clone())).try_into_vec_as()?;
    let rows: Vec<&[f32]> = logits.chunks_exact(model.config().vocab_size).collect();

    let mut cache = KvCache::new(model.config());
    let (mut next, mut greedy) = (tokens, Vec::new());
    for _ in 0..count {
        let logits = model.forward_cached(input(next), &mut cache);
        let id = logits.argmax(1).try_into_vec_as::<i64>()?[0];
        greedy.push(id);
        next = vec![id];
    }
    println!("{}", serde_json::json!({ "logits": rows, "greedy": greedy }));
    Ok(())
}
