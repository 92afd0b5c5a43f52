//! Whether a JPEG was cut. Its decoder fills in grey for what is missing, without a word.

/// Start of a scan.
const SOS: u8 = 0xda;
/// End of the image.
const EOI: u8 = 0xd9;

/// Whether the JPEG `bytes` has its mark of the end behind a scan. Images in its metadata don't
/// count, nor does what follows the end.
pub(super) fn jpeg_has_its_end(bytes: &[u8]) -> bool {
    let (mut rest, mut scanned) = (bytes, false);
    loop {
        // Compressed data, or nothing: a mark is a byte 255 and one that is neither 0 (a 255 of the
        // data) nor 255 (a filler).
        let Some(at) = rest.iter().position(|&byte| byte == 0xff) else { return false };
        let Some(length) = rest[at..].iter().position(|&byte| byte != 0xff) else { return false };
        let mark = rest[at + length];
        rest = &rest[at + length + 1..];
        match mark {
            EOI if scanned => return true,
            // Without content: a restart, the image's beginning, and what no JPEG has.
            0..=0xbf | 0xd0..=0xd9 => continue,
            _ => scanned |= mark == SOS,
        }
        // Its length counts its own two bytes.
        let Some(&[high, low]) = rest.first_chunk() else { return false };
        let Some(behind) = rest.get(usize::from(u16::from_be_bytes([high, low])).max(2)..) else {
            return false;
        };
        rest = behind;
    }
}
