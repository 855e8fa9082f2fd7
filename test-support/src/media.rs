//! Small pictures and sounds, written by hand.

/// Returns a PNG (RFC 2083) of 8 bits per sample, stored without compression; `channels` are 1 to 4, as grey, grey and
/// alpha, RGB, and RGBA.
pub fn png(width: u32, height: u32, channels: usize, samples: &[u8]) -> Vec<u8> {
    let row = (width as usize * channels).max(1);
    // Each row begins with its filter, none.
    let rows: Vec<u8> = samples.chunks(row).flat_map(|row| [&[0], row].concat()).collect();
    png_of(width, height, [0, 4, 2, 6][channels - 1], &zlib(&rows))
}

/// Returns a PNG with any size, colour type and compressed data.
pub fn png_of(width: u32, height: u32, colour_type: u8, data: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, colour_type, 0, 0, 0]].concat();
    let chunks = [chunk(b"IHDR", &header), chunk(b"IDAT", data), chunk(b"IEND", &[])];
    [&b"\x89PNG\r\n\x1a\n"[..], &chunks.concat()].concat()
}

fn chunk(name: &[u8], data: &[u8]) -> Vec<u8> {
    let checked = [name, data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &checked, &crc(&checked).to_be_bytes()].concat()
}

/// Returns data in stored blocks (RFC 1950, RFC 1951).
pub fn zlib(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let blocks = data.len().div_ceil(0xffff).max(1);
    for i in 0..blocks {
        let block = &data[i * 0xffff..data.len().min((i + 1) * 0xffff)];
        let length = block.len() as u16;
        out.push(u8::from(i + 1 == blocks));
        out.extend([length.to_le_bytes(), (!length).to_le_bytes()].concat());
        out.extend(block);
    }
    let (a, b) = data.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    });
    out.extend((b << 16 | a).to_be_bytes());
    out
}

fn crc(data: &[u8]) -> u32 {
    !data.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 })
    })
}

/// Returns a WAV of 16-bit PCM samples, interleaved.
pub fn wav(sample_rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let block = u32::from(channels) * 2;
    let format = [
        &1_u16.to_le_bytes()[..],
        &channels.to_le_bytes(),
        &sample_rate.to_le_bytes(),
        &(sample_rate * block).to_le_bytes(),
        &(block as u16).to_le_bytes(),
        &16_u16.to_le_bytes(),
    ]
    .concat();
    let part = |name: &[u8], data: &[u8]| [name, &(data.len() as u32).to_le_bytes(), data].concat();
    let body = [b"WAVE", &part(b"fmt ", &format)[..], &part(b"data", &data)].concat();
    part(b"RIFF", &body)
}

/// Returns a GIF (version 89a) of one frame with one of two colours, the second everywhere, in codes of 3 bits.
pub fn gif(width: u16, height: u16, colours: [[u8; 3]; 2]) -> Vec<u8> {
    let size = [width.to_le_bytes(), height.to_le_bytes()].concat();
    let mut out = [&b"GIF89a"[..], &size, &[0x80, 0, 0], &colours.concat()].concat();
    out.extend([&[0x2c, 0, 0, 0, 0][..], &size, &[0, 2]].concat());
    // Clear (4) before every pair of pixels, so that the codes stay at 3 bits; end (5).
    let pixels = usize::from(width) * usize::from(height);
    let mut codes: Vec<u8> = (0..pixels).flat_map(|i| if i % 2 == 0 { vec![4, 1] } else { vec![1] }).collect();
    codes.push(5);
    let bits: Vec<u8> = codes.iter().flat_map(|code| (0..3).map(move |bit| code >> bit & 1)).collect();
    let bytes: Vec<u8> = bits.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit)).collect();
    for block in bytes.chunks(255) {
        out.push(block.len() as u8);
        out.extend(block);
    }
    out.extend([0, 0x3b]);
    out
}

/// Returns an SVG of `content` with the size of an emoji.
pub fn svg(content: &str) -> Vec<u8> {
    format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 72 72\">{content}</svg>").into_bytes()
}
