//! CRC-32 (IEEE), the checksum of all our files.

/// The checksum of `bytes`.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn crc_is_the_ieee_one() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
    }
}
