//! The Internet checksum, full and incremental (RFC 1071, RFC 1624 equation 3).

/// The one's-complement difference a change of some 16-bit words makes: applied to a checksum that
/// covers those words. Kept as it lies in memory: the sum does not care for byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Delta(pub u16);
