//! Reads a checkpoint and writes it again, to compare it with the original in another program:
//! `cargo run --release -p model --example export -- FOLDER OUT [MAX_SHARD_BYTES]`. Weights are written in f32.

use std::error::Error;
use std::path::Path;

use burn::tensor::Device;
use model::Dtype;
use model::checkpoint::{self, MAX_SHARD_BYTES};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("give the folder of a checkpoint")?;
    let out = arguments.next().ok_or("give the folder to write")?;
    let max_shard_bytes = arguments.next().map_or(Ok(MAX_SHARD_BYTES), |text| text.parse())?;
    let model = checkpoint::load(Path::new(&folder), &Device::flex())?;
    std::fs::create_dir_all(&out)?;
    Ok(checkpoint::save_sharded(&model, Path::new(&out), Dtype::F32, max_shard_bytes)?)
}
