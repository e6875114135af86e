//! QUIC: a connection stays with its backend whatever address its client has, by what its
//! connection ids say (RFC 9000 section 5.1, and `quic`).
//!
//! ```text
//! client's first Initial   id the client made up ──────► Maglev hash of the id ─► backend B
//! B answers                id of B's choice, with B's server id in it
//! from then on             id with a server id ────────► B, from any address
//! ```
//!
//! The client uses the server's id as soon as it has an answer, and nobody can hash what a server
//! made up to where the client's first packet went. So **every backend has to write its own server
//! id into its connection ids**, in the plaintext encoding, and the configuration says which id is
//! whose. A backend that is drained keeps its connections: a server id leads to it all the same.
//! Limits hold. A long header may carry an id that the client made up and that has a drained
//! backend's server id in it by chance or by design: it does not lead there, or the backend
//! would never be empty. (A connection changes its address with short headers: RFC 9000
//! section 9.) An id without a known server id is hashed if all of it is there (a long header's);
//! a short header's is not, as nobody knows its length: then, and for what is not QUIC, the
//! client's address and port are hashed.
//!
//! An id that a client made up may by chance have the server id of a backend with weight in it. It
//! leads there, every time: no harm.

use super::choice::Choice;
use super::hash::{fold, sip13};
use super::method::{Entry, Flags, Method, Prepared};
use super::mh;
use super::quic::{ConnectionId, ServerIds, connection_id};

pub(super) const METHOD: Method = Method {
    needs_server_ids: true,
    has_table: true,
    prepare: Some(prepare),
    ..Method::new(
        "qh",
        "QUIC: connections stay with their backend when the client's address changes. Backends \
         must write their server id into connection ids.",
        pick,
    )
};

/// The key of connection ids' hash.
const KEY: u64 = 0x7175_6963;

fn prepare(entries: &[Entry], flags: Flags) -> Prepared {
    let ids = entries.iter().zip(0u16..);
    let ids = ids.filter_map(|(entry, position)| Some((entry.server_id?, position)));
    Prepared { server_ids: ServerIds::new(ids), ..mh::prepare(entries, flags) }
}

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    let server_ids = &choice.walk.service.scheduling.prepared().server_ids;
    let id = connection_id(choice.flow.datagram);
    let Some(ConnectionId::Long(bytes) | ConnectionId::Short(bytes)) = id else {
        return mh::at(choice, address(choice), true);
    };
    let is_made_up = |position: &usize| {
        matches!(id, Some(ConnectionId::Long(_))) && choice.walk.weight(*position) == 0
    };
    if let Some(position) = server_ids.find(bytes).filter(|position| !is_made_up(position)) {
        return (!choice.walk.is_overloaded(position)).then_some(position);
    }
    let word = match id {
        Some(ConnectionId::Long(bytes)) if !bytes.is_empty() => word(bytes),
        _ => address(choice),
    };
    mh::at(choice, word, true)
}

#[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
fn word(connection_id: &[u8]) -> u32 {
    sip13(KEY, connection_id) as u32
}

fn address(choice: &Choice<'_>) -> u32 {
    fold(choice.flow.client).wrapping_add(choice.flow.client_port.into())
}
