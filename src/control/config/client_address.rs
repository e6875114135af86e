//! `client_address` as people write and read it.
//!
//! ```text
//! "none"       the backend sees what it sees
//! "toa"        a TCP option: kind 254 for IPv4 and IPv6 clients
//! "toa-253"    the same, but kind 253 for IPv6 clients
//! "proxy-v1"   the PROXY protocol, as a line of text before the data
//! "proxy-v2"   the same in binary, also in front of a datagram
//! ```

use serde::Serializer;

use crate::dataplane::snapshot::ClientAddress;

/// The words and what they mean.
pub(super) const WORDS: [(&str, ClientAddress); 5] = [
    ("none", ClientAddress::None),
    ("toa", ClientAddress::Toa { kind_v6: 254 }),
    ("toa-253", ClientAddress::Toa { kind_v6: 253 }),
    ("proxy-v1", ClientAddress::ProxyV1),
    ("proxy-v2", ClientAddress::ProxyV2),
];

/// The word for it.
pub fn word(client_address: ClientAddress) -> &'static str {
    match client_address {
        ClientAddress::None => "none",
        ClientAddress::Toa { kind_v6: 253 } => "toa-253",
        ClientAddress::Toa { .. } => "toa",
        ClientAddress::ProxyV1 => "proxy-v1",
        ClientAddress::ProxyV2 => "proxy-v2",
    }
}

/// Serialises it as its word.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
pub(super) fn serialize<S: Serializer>(
    client_address: &ClientAddress,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(word(*client_address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_the_word_for_what_it_means() {
        for (written, meaning) in WORDS {
            assert_eq!(word(meaning), written);
        }
    }
}
