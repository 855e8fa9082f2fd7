//! Pictures and sound: the bytes of a file become pixels or samples, within limits.
//!
//! In: bytes of PNG, JPEG, WebP, GIF (its first frame), SVG, WAV, FLAC, MP3 or OGG Vorbis, recognised by content. Out:
//! a [`Picture`] or a [`Sound`], or with [`Decoder::probe`] only its size, after everything was decoded once. Bytes
//! are not trusted: claims are checked before memory is allocated for them, an SVG can load and run nothing, and every
//! fault is an [`Error`] that names it, never a panic.
//!
//! Files, captions, resizing, resampling and token ids are up to the caller.

mod error;
mod kind;
mod picture;
mod sound;
mod svg;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use error::Error;
pub use kind::Kind;
pub use picture::Picture;
pub use sound::Sound;

/// What is decoded at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pixels of a picture. Default: 2^25, which has room for 8K (7680 × 4320). Heuristic, not measured.
    pub max_pixels: u64,
    /// Seconds of a sound. Default: 600. Heuristic, not measured: far beyond the context of a small Transformer.
    pub max_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pixels: 1 << 25, max_seconds: 600 }
    }
}

/// The size of a picture or sound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Info {
    /// Of a picture, in pixels; of an SVG, in its own units, rounded up.
    Picture {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// Of a sound.
    Sound {
        /// Samples of a channel per second.
        sample_rate: u32,
        /// Its channels.
        channels: u32,
        /// Its duration.
        seconds: f64,
    },
}

/// Decodes on any number of threads; large pictures one at a time, which bounds their memory.
#[derive(Debug, Default)]
pub struct Decoder {
    limits: Limits,
    large: Mutex<()>,
}

impl Decoder {
    /// Returns a decoder with these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, large: Mutex::default() }
    }

    /// Decodes everything, and returns only its kind and size. A sound is decoded a packet at a time; an SVG is not
    /// painted.
    ///
    /// # Errors
    /// Returns an error if the bytes are of no known kind, damaged or truncated, beyond the limits, or hostile.
    pub fn probe(&self, bytes: &[u8]) -> Result<(Kind, Info), Error> {
        let kind = Kind::of(bytes).ok_or(Error::Unknown)?;
        let info = caught(kind, || match kind {
            Kind::Svg => svg::size(bytes).map(|(width, height)| Info::Picture { width, height }),
            _ if kind.is_picture() => {
                let Picture { width, height, .. } = picture::decode(bytes, kind, self)?;
                Ok(Info::Picture { width, height })
            }
            _ => sound::probe(bytes, kind, self.limits),
        })?;
        Ok((kind, info))
    }

    /// Decodes a picture, over white where it is transparent. An SVG is painted so that its longer side has `side`
    /// pixels; other kinds keep their size.
    ///
    /// # Errors
    /// As [`Decoder::probe`], and [`Error::WrongKind`] for a sound.
    pub fn picture(&self, bytes: &[u8], side: u32) -> Result<Picture, Error> {
        let kind = Kind::of(bytes).ok_or(Error::Unknown)?;
        caught(kind, || match kind {
            Kind::Svg => svg::paint(bytes, side),
            _ if kind.is_picture() => picture::decode(bytes, kind, self),
            _ => Err(Error::WrongKind { kind, wanted: "picture" }),
        })
    }

    /// Decodes a sound to the mean of its channels.
    ///
    /// # Errors
    /// As [`Decoder::probe`], and [`Error::WrongKind`] for a picture.
    pub fn sound(&self, bytes: &[u8]) -> Result<Sound, Error> {
        let kind = Kind::of(bytes).ok_or(Error::Unknown)?;
        caught(kind, || match kind {
            _ if kind.is_picture() => Err(Error::WrongKind { kind, wanted: "sound" }),
            _ => sound::decode(bytes, kind, self.limits),
        })
    }

    /// Returns an error if a picture of this size must not be decoded, and the permission to hold a large one.
    fn admit(&self, kind: Kind, width: u32, height: u32) -> Result<Option<MutexGuard<'_, ()>>, Error> {
        /// Pixels of which every thread may hold a picture: 4 Mi, 16 to 32 MiB. Heuristic, not measured.
        const LARGE_PIXELS: u64 = 1 << 22;
        let (pixels, max) = (u64::from(width) * u64::from(height), self.limits.max_pixels);
        match pixels {
            0 => Err(Error::damaged(kind, "it has no pixels")),
            _ if pixels > max => {
                let what = format!("it has {width} × {height} pixels, and {max} pixels are allowed");
                Err(Error::TooLarge { kind, what })
            }
            // A thread that panicked while it held the lock left nothing behind.
            LARGE_PIXELS.. => Ok(Some(self.large.lock().unwrap_or_else(PoisonError::into_inner))),
            _ => Ok(None),
        }
    }
}

/// Decodes, and turns a panic of a decoder into an error.
fn caught<T>(kind: Kind, decode: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // Partial results are dropped with `decode`, so no state after a panic is observed.
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(Error::damaged(kind, "the decoder panicked")))
}
