//! Sound.

use std::io::{Cursor, ErrorKind};

use symphonia::core::audio::{AudioBufferRef, SampleBuffer};
use symphonia::core::codecs::{CodecParameters, DecoderOptions};
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::FormatOptions;
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::{Limit, MetadataOptions};
use symphonia::core::probe::Hint;

use crate::{Error, Info, Kind, Limits};

/// A decoded sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// Samples per second.
    pub sample_rate: u32,
    /// The mean of its channels, mostly from −1 to 1.
    pub samples: Vec<f32>,
}

/// The most samples per second. Heuristic, not measured: twice what any sound card records.
const MAX_SAMPLE_RATE: u32 = 384_000;
/// Bytes of a tag or a cover picture, which are not used.
const MAX_TAG_BYTES: usize = 1 << 20;

/// Decodes a sound and returns its size.
pub(crate) fn probe(bytes: &[u8], kind: Kind, limits: Limits) -> Result<Info, Error> {
    let (mut frames, mut channels) = (0, 0);
    let sample_rate = packets(bytes, kind, limits, |packet| {
        frames += packet.frames() as u64;
        channels = packet.spec().channels.count() as u32;
    })?;
    Ok(Info::Sound { sample_rate, channels, seconds: frames as f64 / f64::from(sample_rate) })
}

/// Decodes a sound.
pub(crate) fn decode(bytes: &[u8], kind: Kind, limits: Limits) -> Result<Sound, Error> {
    let mut samples = Vec::new();
    let sample_rate = packets(bytes, kind, limits, |packet| {
        let channels = packet.spec().channels.count().max(1);
        let mut interleaved = SampleBuffer::<f32>::new(packet.capacity() as u64, *packet.spec());
        interleaved.copy_interleaved_ref(packet);
        let mean = |frame: &[f32]| frame.iter().sum::<f32>() / channels as f32;
        samples.extend(interleaved.samples().chunks_exact(channels).map(mean));
    })?;
    Ok(Sound { sample_rate, samples })
}

/// Decodes packet by packet and returns the sample rate.
fn packets(bytes: &[u8], kind: Kind, limits: Limits, mut visit: impl FnMut(AudioBufferRef<'_>)) -> Result<u32, Error> {
    let fault = |error: SymphoniaError| Error::damaged(kind, error);
    if kind == Kind::Wav && wav_rate(bytes) == Some(0) {
        // Symphonia panics, which would be caught, but also printed.
        return Err(Error::damaged(kind, "its sample rate is 0"));
    }
    // The stream reads a part of the source at a time and owns it; sounds are small.
    let source = Box::new(Cursor::new(bytes.to_vec()));
    let stream = MediaSourceStream::new(source, MediaSourceStreamOptions::default());
    let tags = MetadataOptions {
        limit_metadata_bytes: Limit::Maximum(MAX_TAG_BYTES),
        limit_visual_bytes: Limit::Maximum(MAX_TAG_BYTES),
    };
    let mut hint = Hint::new();
    hint.with_extension(kind.name());
    let gapless = FormatOptions { enable_gapless: true, ..FormatOptions::default() };
    let probed = symphonia::default::get_probe().format(&hint, stream, &gapless, &tags).map_err(fault)?;
    let mut format = probed.format;
    let track = format.default_track().ok_or_else(|| Error::damaged(kind, "it has no track"))?;
    let (track_id, parameters) = (track.id, track.codec_params.clone());
    let sample_rate = checked_rate(kind, &parameters, limits)?;
    let mut decoder = symphonia::default::get_codecs().make(&parameters, &DecoderOptions::default()).map_err(fault)?;
    let max_frames = u64::from(limits.max_seconds) * u64::from(sample_rate);
    let (mut frames, mut refused) = (0_u64, None);
    loop {
        let packet = match format.next_packet() {
            Ok(packet) => packet,
            Err(SymphoniaError::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => break,
            // Another stream follows, which is not read.
            Err(SymphoniaError::ResetRequired) => break,
            Err(error) => return Err(fault(error)),
        };
        if packet.track_id() != track_id {
            continue;
        }
        match decoder.decode(&packet) {
            Ok(decoded) => {
                frames += decoded.frames() as u64;
                if frames > max_frames {
                    return Err(too_long(kind, limits));
                }
                visit(decoded);
            }
            // Layer III refers to earlier packets, which a cut file lacks: decoders skip what they cannot decode.
            Err(SymphoniaError::DecodeError(why)) if kind == Kind::Mp3 => refused = Some(why),
            Err(error) => return Err(fault(error)),
        }
    }
    match (frames, refused, parameters.n_frames) {
        (0, Some(why), _) => Err(Error::damaged(kind, why)),
        (0, None, _) => Err(Error::damaged(kind, "it has no samples")),
        // The number in a file of MP3 is an estimate; that of OGG is of what is there.
        (_, _, Some(claimed)) if matches!(kind, Kind::Wav | Kind::Flac) && frames < claimed => {
            Err(Error::damaged(kind, format!("it ends after {frames} of {claimed} samples")))
        }
        _ => Ok(sample_rate),
    }
}

/// Returns the sample rate in the first chunk `fmt ` of a WAV.
fn wav_rate(bytes: &[u8]) -> Option<u32> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let mut chunk = 12_usize;
    while bytes.get(chunk..chunk.checked_add(4)?)? != b"fmt " {
        let length = number(chunk + 4)? as usize;
        // Chunks begin at even places.
        chunk = chunk.checked_add(8)?.checked_add(length)?.checked_next_multiple_of(2)?;
    }
    number(chunk + 12)
}

fn checked_rate(kind: Kind, parameters: &CodecParameters, limits: Limits) -> Result<u32, Error> {
    let sample_rate = parameters.sample_rate.unwrap_or_default();
    if !(1..=MAX_SAMPLE_RATE).contains(&sample_rate) {
        return Err(Error::damaged(kind, format!("its sample rate is {sample_rate}")));
    }
    let claimed = parameters.n_frames.unwrap_or_default();
    let is_too_long = claimed / u64::from(sample_rate) > u64::from(limits.max_seconds);
    // What a damaged file of MP3 claims is checked while it is decoded.
    if is_too_long && kind != Kind::Mp3 { Err(too_long(kind, limits)) } else { Ok(sample_rate) }
}

fn too_long(kind: Kind, limits: Limits) -> Error {
    let what = format!("it is longer than {} seconds; cut it into pieces", limits.max_seconds);
    Error::TooLarge { kind, what }
}
