//! QUIC's connection ids, as far as a box in the middle may read them (RFC 8999, which holds for
//! all versions), and the server ids backends write into them.
//!
//! ```text
//! long header     1....... │ version (4) │ length (1) │ destination connection id │ …
//! short header    0....... │ destination connection id, whose length only its server knows │ …
//!
//! connection id   ccc..... │ server id (1 to 15 bytes) │ whatever the server likes
//! ```
//!
//! The last line is draft-ietf-quic-load-balancers' plaintext encoding: `ccc` names the
//! configuration, seven means that nothing is encoded. Any other is taken here, since a server id
//! that no backend has is no harm: it counts as none.

use std::str::FromStr;

/// Longest server id.
pub(super) const SERVER_ID_MAX: usize = 15;

/// What a backend writes into its connection ids, to be found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    length: u8,
    /// Padded with zeroes.
    bytes: [u8; SERVER_ID_MAX],
}

/// Not a server id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to 15 bytes in hexadecimal, two digits each")]
pub struct ServerIdError;

impl ServerId {
    fn new(bytes: &[u8]) -> Option<Self> {
        let mut id = Self { length: u8::try_from(bytes.len()).ok()?, bytes: [0; SERVER_ID_MAX] };
        id.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        (!bytes.is_empty()).then_some(id)
    }

    /// How many bytes it has.
    pub fn length(self) -> usize {
        self.length.into()
    }
}

impl FromStr for ServerId {
    type Err = ServerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.bytes().map(|digit| char::from(digit).to_digit(16));
        let digits: Option<Vec<u32>> = digits.collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or(ServerIdError)?;
        let byte = |pair: &[u32]| pair.iter().fold(0, |byte, digit| byte * 16 + digit);
        let bytes = digits.chunks(2).map(|pair| u8::try_from(byte(pair)));
        let bytes: Result<Vec<u8>, _> = bytes.collect();
        bytes.ok().and_then(|bytes| Self::new(&bytes)).ok_or(ServerIdError)
    }
}

impl std::fmt::Display for ServerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes.iter().take(self.length()).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl serde::Serialize for ServerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The server ids of a service's backends, with their positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerIds {
    /// All have the same length; 0 if there are none.
    length: usize,
    /// Ascending.
    ids: Box<[(ServerId, u16)]>,
}

impl ServerIds {
    pub(super) fn new(ids: impl Iterator<Item = (ServerId, u16)>) -> Self {
        let mut ids: Box<[_]> = ids.collect();
        ids.sort_unstable();
        Self { length: ids.first().map_or(0, |(id, _)| id.length()), ids }
    }

    /// The position of the backend whose id is in this connection id.
    #[inline]
    pub(super) fn find(&self, connection_id: &[u8]) -> Option<usize> {
        let (first, rest) = connection_id.split_first()?;
        if first >> 5 == 7 {
            return None;
        }
        let wanted = ServerId::new(rest.get(..self.length)?)?;
        let place = self.ids.binary_search_by_key(&wanted, |(id, _)| *id).ok()?;
        self.ids.get(place).map(|(_, position)| usize::from(*position))
    }
}

/// A destination connection id, with what a short header has behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionId<'a> {
    /// Of a long header: all of it.
    Long(&'a [u8]),
    /// Of a short header: it begins here.
    Short(&'a [u8]),
}

/// The destination connection id of a datagram's first packet, if it can be QUIC.
#[inline]
pub(super) fn connection_id(datagram: &[u8]) -> Option<ConnectionId<'_>> {
    let (first, rest) = datagram.split_first()?;
    if first & 0x80 == 0 {
        return Some(ConnectionId::Short(rest));
    }
    let (length, rest) = rest.get(4..)?.split_first()?;
    rest.get(..usize::from(*length)).map(ConnectionId::Long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_ids_are_read_and_written_in_hexadecimal() {
        for good in ["00", "0a1B", "000102030405060708090a0b0c0d0e"] {
            let id: ServerId = good.parse().unwrap();
            assert_eq!(id.to_string(), good.to_lowercase());
            assert_eq!(id.length(), good.len() / 2);
        }
        for bad in ["", "0", "0g", "000102030405060708090a0b0c0d0e0f", "+1", "1 "] {
            assert_eq!(bad.parse::<ServerId>(), Err(ServerIdError), "{bad:?}");
        }
    }

    #[test]
    fn connection_ids_are_found_in_both_headers() {
        let long = [0xc3, 0, 0, 0, 1, 3, 7, 8, 9, 0, 0];
        assert_eq!(connection_id(&long), Some(ConnectionId::Long(&[7, 8, 9])));
        assert_eq!(connection_id(&[0x43, 7, 8]), Some(ConnectionId::Short(&[7, 8])));
        assert_eq!(connection_id(&long[..8]), None);
        assert_eq!(connection_id(&long[..5]), None);
        assert_eq!(connection_id(&[]), None);
    }
}
