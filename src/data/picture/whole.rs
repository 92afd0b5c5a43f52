//! Detects truncated JPEGs. The decoder fills in what is missing with grey and reports no error.

/// Start of a scan.
const SOS: u8 = 0xda;
/// End of the image.
const EOI: u8 = 0xd9;

/// Checks whether the JPEG `bytes` has an end marker after a scan. Images in its metadata don't
/// count, nor does what follows the end.
pub(super) fn jpeg_has_its_end(bytes: &[u8]) -> bool {
    let (mut rest, mut scanned) = (bytes, false);
    loop {
        // Compressed data, or nothing. A marker is a byte 255 followed by one that is neither 0 (an
        // escaped 255 of the data) nor 255 (padding).
        let Some(at) = rest.iter().position(|&byte| byte == 0xff) else { return false };
        let Some(length) = rest[at..].iter().position(|&byte| byte != 0xff) else { return false };
        let mark = rest[at + length];
        rest = &rest[at + length + 1..];
        match mark {
            EOI if scanned => return true,
            // Markers without content: a restart, the start of the image, and codes that no JPEG
            // has.
            0..=0xbf | 0xd0..=0xd9 => continue,
            _ => scanned |= mark == SOS,
        }
        // The length includes its own two bytes.
        let Some(&[high, low]) = rest.first_chunk() else { return false };
        let Some(behind) = rest.get(usize::from(u16::from_be_bytes([high, low])).max(2)..) else {
            return false;
        };
        rest = behind;
    }
}
