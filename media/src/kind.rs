//! Kinds of pictures and sound, recognised by content.

use std::fmt;

/// A kind of picture or sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Portable Network Graphics (RFC 2083).
    Png,
    /// JPEG, baseline or progressive.
    Jpeg,
    /// WebP, lossy or lossless.
    Webp,
    /// GIF, of which the first frame is read.
    Gif,
    /// Scalable Vector Graphics.
    Svg,
    /// RIFF WAVE with PCM samples.
    Wav,
    /// Free Lossless Audio Codec.
    Flac,
    /// MPEG-1 or 2 audio, layer III.
    Mp3,
    /// Vorbis in an OGG container.
    Ogg,
}

/// Bytes in which the root of an SVG begins, after comments and declarations. Heuristic, not measured.
const SVG_HEAD_BYTES: usize = 4 << 10;

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] =
        [Self::Png, Self::Jpeg, Self::Webp, Self::Gif, Self::Svg, Self::Wav, Self::Flac, Self::Mp3, Self::Ogg];

    /// Returns the kind that the bytes begin as, if it is known.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => Some(Self::Wav),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'f', b'L', b'a', b'C', ..] => Some(Self::Flac),
            [b'O', b'g', b'g', b'S', ..] => Some(Self::Ogg),
            [b'I', b'D', b'3', ..] => Some(Self::Mp3),
            // A frame of layer III: eleven bits of synchronisation, a version, a layer, and a bit rate that exists.
            [0xff, second, third, ..] if second & 0xe6 == 0xe2 && second & 0x18 != 0x08 && third & 0xf0 != 0xf0 => {
                Some(Self::Mp3)
            }
            _ => is_svg(bytes).then_some(Self::Svg),
        }
    }

    /// Returns the kind that a file's extension names.
    pub fn of_extension(extension: &str) -> Option<Self> {
        Some(match extension.to_ascii_lowercase().as_str() {
            "png" => Self::Png,
            "jpg" | "jpeg" | "jpe" | "jfif" => Self::Jpeg,
            "webp" => Self::Webp,
            "gif" => Self::Gif,
            "svg" => Self::Svg,
            "wav" | "wave" => Self::Wav,
            "flac" => Self::Flac,
            "mp3" => Self::Mp3,
            "ogg" | "oga" => Self::Ogg,
            _ => return None,
        })
    }

    /// Returns its name, which is also its usual extension.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
            Self::Gif => "gif",
            Self::Svg => "svg",
            Self::Wav => "wav",
            Self::Flac => "flac",
            Self::Mp3 => "mp3",
            Self::Ogg => "ogg",
        }
    }

    /// Returns true for a picture, false for a sound.
    pub fn is_picture(self) -> bool {
        matches!(self, Self::Png | Self::Jpeg | Self::Webp | Self::Gif | Self::Svg)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns true if the bytes begin as XML with the root `svg`, possibly with a prefix.
fn is_svg(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(SVG_HEAD_BYTES)];
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let is_root = |rest: &[u8]| rest.starts_with(b"<svg") || rest.starts_with(b"<svg:svg");
    let is_xml = [&b"<?xml"[..], b"<!--", b"<!DOCTYPE svg"].iter().any(|start| head.starts_with(start));
    is_root(head) || (is_xml && (0..head.len()).any(|at| is_root(&head[at..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_content() {
        let check = |bytes: &[u8], expected| assert_eq!(Kind::of(bytes), expected, "{bytes:?}");
        check(b"\x89PNG\r\n\x1a\n....", Some(Kind::Png));
        check(b"\xff\xd8\xff\xe0", Some(Kind::Jpeg));
        check(b"RIFF\0\0\0\0WEBPVP8 ", Some(Kind::Webp));
        check(b"RIFF\0\0\0\0WAVEfmt ", Some(Kind::Wav));
        check(b"RIFF\0\0\0\0AVI LIST", None);
        check(b"GIF89a", Some(Kind::Gif));
        check(b"GIF88a", None);
        check(b"ID3\x04", Some(Kind::Mp3));
        check(b"\xff\xfb\x90\x00", Some(Kind::Mp3));
        check(b"\xff\xf1\x50\x80", None);
        check(b"\xff\xfe<\0s\0v\0g\0", None);
        check(b"\xef\xbb\xbf \n<svg xmlns='http://www.w3.org/2000/svg'/>", Some(Kind::Svg));
        check(b"<?xml version=\"1.0\"?><!-- a --><svg/>", Some(Kind::Svg));
        check(b"<html><svg/></html>", None);
        check(b"", None);
        for kind in Kind::ALL {
            assert_eq!(Kind::of_extension(kind.name()), Some(kind));
        }
    }
}
