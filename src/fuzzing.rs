//! What the fuzz targets in `fuzz/` reach; nothing for programs.

/// Decodes a notification's payload, whatever it is.
pub fn decode_payload(text: &str) {
    crate::source::decode_payload(text);
}
