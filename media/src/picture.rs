//! Pictures of pixels.

use std::io::Cursor;
use std::num::NonZeroU64;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_core::result::DecodingResult;

use crate::{Decoder, Error, Kind};

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// Red, green and blue of each pixel, row by row from the top left.
    pub rgb: Vec<u8>,
}

/// Decodes a picture of any kind but SVG.
pub(crate) fn decode(bytes: &[u8], kind: Kind, decoder: &Decoder) -> Result<Picture, Error> {
    match kind {
        Kind::Png => png(bytes, decoder),
        Kind::Jpeg => jpeg(bytes, decoder),
        Kind::Webp => webp(bytes, decoder),
        _ => gif(bytes, decoder),
    }
}

/// The largest side that the decoders accept; the limit on pixels is checked before anything is allocated.
const MAX_SIDE: usize = 1 << 24;

fn options() -> DecoderOptions {
    // The strict mode reports truncated files instead of filling them up.
    DecoderOptions::new_safe().set_max_width(MAX_SIDE).set_max_height(MAX_SIDE).set_strict_mode(true)
}

fn png(bytes: &[u8], decoder: &Decoder) -> Result<Picture, Error> {
    let fault = |error: zune_png::error::PngDecodeErrors| Error::damaged(Kind::Png, format!("{error:?}"));
    let missing = || Error::damaged(Kind::Png, "it has no header");
    let options = options().png_set_strip_to_8bit(true).inflate_set_confirm_adler(true).png_set_confirm_crc(true);
    let mut png = zune_png::PngDecoder::new_with_options(ZCursor::new(bytes), options);
    // The size is at the beginning; what follows is only read once the size is admitted.
    let (width, height) = png_size(bytes).ok_or_else(missing)?;
    let _large = decoder.admit(Kind::Png, width, height)?;
    png.decode_headers().map_err(fault)?;
    let DecodingResult::U8(pixels) = png.decode().map_err(fault)? else {
        return Err(Error::damaged(Kind::Png, "its samples are not of 8 bits"));
    };
    let space = png.colorspace().ok_or_else(missing)?;
    let samples = match space {
        ColorSpace::Luma => Samples::Grey,
        ColorSpace::LumaA => Samples::GreyAlpha,
        ColorSpace::RGB => Samples::Rgb,
        ColorSpace::RGBA => Samples::Rgba,
        _ => return Err(Error::Unsupported { kind: Kind::Png, what: "an unknown colour space" }),
    };
    samples.picture(Kind::Png, width, height, pixels)
}

/// Returns the width and height in the first chunk, `IHDR`.
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    (bytes.get(12..16)? == b"IHDR").then_some(())?;
    Some((number(16)?, number(20)?))
}

fn jpeg(bytes: &[u8], decoder: &Decoder) -> Result<Picture, Error> {
    let fault = |error: zune_jpeg::errors::DecodeErrors| Error::damaged(Kind::Jpeg, format!("{error:?}"));
    let options = options().jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut jpeg = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    jpeg.decode_headers().map_err(fault)?;
    let (width, height) = jpeg.dimensions().unwrap_or_default();
    let (width, height) = (width as u32, height as u32);
    let _large = decoder.admit(Kind::Jpeg, width, height)?;
    // The decoder fills up what is missing at the end. In the data of a scan, 0xFF begins no other marker.
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    if last(0xd9) < last(0xda) {
        return Err(Error::damaged(Kind::Jpeg, "it ends before its end of image"));
    }
    let pixels = jpeg.decode().map_err(fault)?;
    let turn = jpeg.exif().map_or(1, |exif| orientation(exif));
    let picture = Samples::Rgb.picture(Kind::Jpeg, width, height, pixels)?;
    Ok(turned(picture, turn))
}

fn webp(bytes: &[u8], decoder: &Decoder) -> Result<Picture, Error> {
    let fault = |error: image_webp::DecodingError| Error::damaged(Kind::Webp, error);
    let mut webp = image_webp::WebPDecoder::new(Cursor::new(bytes)).map_err(fault)?;
    let (width, height) = webp.dimensions();
    let _large = decoder.admit(Kind::Webp, width, height)?;
    webp.set_memory_limit(usize::try_from(decoder.limits.max_pixels).unwrap_or(usize::MAX).saturating_mul(4));
    let samples = if webp.has_alpha() { Samples::Rgba } else { Samples::Rgb };
    let mut pixels = vec![0; webp.output_buffer_size().unwrap_or_default()];
    webp.read_image(&mut pixels).map_err(fault)?;
    samples.picture(Kind::Webp, width, height, pixels)
}

fn gif(bytes: &[u8], decoder: &Decoder) -> Result<Picture, Error> {
    let fault = |error: gif::DecodingError| Error::damaged(Kind::Gif, error);
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    options.check_frame_consistency(true);
    if let Some(most) = NonZeroU64::new(decoder.limits.max_pixels.saturating_mul(4)) {
        options.set_memory_limit(gif::MemoryLimit::Bytes(most));
    }
    let mut gif = options.read_info(bytes).map_err(fault)?;
    let (width, height) = (u32::from(gif.width()), u32::from(gif.height()));
    let _large = decoder.admit(Kind::Gif, width, height)?;
    let frame = gif.read_next_frame().map_err(fault)?;
    let frame = frame.ok_or_else(|| Error::damaged(Kind::Gif, "it has no frame"))?;
    // The frame may cover only a part, and is checked to lie inside.
    let mut pixels = vec![0; width as usize * height as usize * 4];
    let row_bytes = usize::from(frame.width) * 4;
    let rows = frame.buffer.chunks_exact(row_bytes.max(1)).zip(usize::from(frame.top)..);
    for (row, y) in rows {
        let at = (y * width as usize + usize::from(frame.left)) * 4;
        let place = pixels.get_mut(at..at + row_bytes);
        place.ok_or_else(|| Error::damaged(Kind::Gif, "its frame is larger than itself"))?.copy_from_slice(row);
    }
    Samples::Rgba.picture(Kind::Gif, width, height, pixels)
}

/// The samples of a pixel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Samples {
    Grey,
    GreyAlpha,
    Rgb,
    Rgba,
}

impl Samples {
    /// Returns a picture over white; an error if the number of samples does not fit.
    pub fn picture(self, kind: Kind, width: u32, height: u32, samples: Vec<u8>) -> Result<Picture, Error> {
        let over_white = |sample: u8, alpha: u8| {
            let (sample, alpha) = (u16::from(sample), u16::from(alpha));
            // Rounded to the nearest; at most 255.
            ((sample * alpha + 255 * (255 - alpha) + 127) / 255) as u8
        };
        let rgb: Vec<u8> = match self {
            Self::Rgb => samples,
            Self::Grey => samples.iter().flat_map(|grey| [*grey; 3]).collect(),
            Self::GreyAlpha => samples.chunks_exact(2).flat_map(|p| [over_white(p[0], p[1]); 3]).collect(),
            Self::Rgba => samples
                .chunks_exact(4)
                .flat_map(|p| [p[0], p[1], p[2]].map(|sample| over_white(sample, p[3])))
                .collect(),
        };
        if rgb.len() as u64 == u64::from(width) * u64::from(height) * 3 {
            return Ok(Picture { width, height, rgb });
        }
        Err(Error::damaged(kind, "it has fewer pixels than it claims"))
    }
}

/// Returns the tag `Orientation` of Exif 2.3 (1 to 8); 1, upright, if there is none.
fn orientation(exif: &[u8]) -> u16 {
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let is_little = exif.starts_with(b"II");
    let short = |at: usize| {
        let bytes: [u8; 2] = exif.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let (first, second) = (u32::from(short(at)?), u32::from(short(at.checked_add(2)?)?));
        Some(if is_little { second << 16 | first } else { first << 16 | second })
    };
    let find = || {
        let directory = long(4)? as usize;
        let entries = usize::from(short(directory)?);
        let entry = |i: usize| directory.checked_add(2 + 12 * i);
        let tag = (0..entries).filter_map(entry).find(|at| short(*at) == Some(0x0112))?;
        short(tag.checked_add(8)?)
    };
    find().filter(|turn| (1..=8).contains(turn)).unwrap_or(1)
}

/// Returns a picture as its `Orientation` wants it shown.
fn turned(picture: Picture, turn: u16) -> Picture {
    if turn == 1 {
        return picture;
    }
    let (w, h) = (picture.width as usize, picture.height as usize);
    let (width, height) = if turn >= 5 { (h, w) } else { (w, h) };
    let mut rgb = Vec::with_capacity(picture.rgb.len());
    for y in 0..height {
        for x in 0..width {
            // Where the pixel shown at (x, y) is stored.
            let (from_x, from_y) = match turn {
                2 => (w - 1 - x, y),
                3 => (w - 1 - x, h - 1 - y),
                4 => (x, h - 1 - y),
                5 => (y, x),
                6 => (y, h - 1 - x),
                7 => (w - 1 - y, h - 1 - x),
                _ => (w - 1 - y, x),
            };
            let at = (from_y * w + from_x) * 3;
            rgb.extend_from_slice(&picture.rgb[at..at + 3]);
        }
    }
    Picture { width: width as u32, height: height as u32, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transparent_pixels_are_over_white() {
        let check = |samples: Samples, bytes: &[u8], expected: &[u8]| {
            let picture = samples.picture(Kind::Png, 1, 1, bytes.to_vec()).unwrap();
            assert_eq!(picture.rgb, expected);
        };
        check(Samples::Grey, &[7], &[7, 7, 7]);
        check(Samples::GreyAlpha, &[0, 0], &[255, 255, 255]);
        check(Samples::Rgba, &[255, 0, 0, 255], &[255, 0, 0]);
        check(Samples::Rgba, &[255, 0, 0, 128], &[255, 127, 127]);
        assert!(Samples::Rgb.picture(Kind::Png, 2, 1, vec![0; 3]).is_err());
    }

    #[test]
    fn pictures_are_turned_as_exif_says() {
        // Two pixels wide, one high: A, B.
        let of = |turn| {
            let picture = turned(Picture { width: 2, height: 1, rgb: vec![1, 1, 1, 2, 2, 2] }, turn);
            (picture.width, picture.height, picture.rgb[0], picture.rgb[3])
        };
        let expected = [(2, 1, 1, 2), (2, 1, 2, 1), (2, 1, 2, 1), (2, 1, 1, 2)];
        let tall = [(1, 2, 1, 2), (1, 2, 1, 2), (1, 2, 2, 1), (1, 2, 2, 1)];
        for (turn, expected) in (1..).zip(expected.into_iter().chain(tall)) {
            assert_eq!(of(turn), expected, "{turn}");
        }
        let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        assert_eq!(orientation(exif), 6);
        assert_eq!(orientation(b"II*\0\xff\xff\xff\xff"), 1);
        assert_eq!(orientation(b""), 1);
    }
}
