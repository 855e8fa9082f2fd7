//! Pictures and sound ↔ token ids: what a tokenizer is for text.
//!
//! In: RGB pictures of one size, or speech at 16 kHz. Out: token ids from 0, and pictures and speech from such ids. The
//! codecs are small autoencoders with a quantised bottleneck; [`Codec`] is both as they are saved, in a folder beside
//! `tokenizer.json`. This crate never decodes a file of a picture or of sound, and never updates a weight.
//!
//! Modules in reading order: [`ImageCodec`] and [`AudioCodec`] with their configurations; [`Autoencoder`], the module
//! that both train, over [`Fsq`] (the quantiser), `layers` (convolutions) and `principal` (its initial weights);
//! [`stft`] and [`mel`] (sound ↔ frames of a spectrogram); [`metrics`]; [`Codec`] (files).

mod audio;
mod autoencoder;
mod config;
mod error;
mod files;
mod image;
mod layers;
pub mod mel;
pub mod metrics;
mod principal;
mod quantizer;
pub mod stft;

pub use audio::AudioCodec;
pub use autoencoder::{Autoencoder, Shape};
pub use config::{AudioConfig, ImageConfig, SAMPLE_RATE};
pub use error::Error;
pub use files::{CONFIG, Codec, FOLDER, WEIGHTS, load_weights, save_weights};
pub use image::ImageCodec;
pub use layers::Grid;
pub use quantizer::Fsq;
