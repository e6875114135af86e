//! Connections that their backend leaves without an answer: what passive health checks are made of.
//!
//! ```text
//! client ── SYN ──► backend                    half open
//!           │                ── SYN+ACK ──►    answered      whatever the client makes of it
//!           │ a second of silence
//!        ── SYN ──► backend                    asked again   a client that waits: seen at once
//!           │ `tcp_syn_recv_s` of silence
//!           └► forgotten                       lapsed        a client that did not: seen when its time is over
//! ```
//!
//! Whose fault silence is can be told: a client that vanishes, as in a flood of forged SYNs, leaves a
//! connection half open whose backend *has* answered. What counts is the backend's own word
//! ([`Record::is_unanswered`]): of TCP the number it has acknowledged, of SCTP and UDP the state. A RST is an
//! answer: the host lives, and who listens there is for active checks to find out.
//!
//! A connection counts once. It costs packets nothing: asked again is found where a SYN meets a connection,
//! lapsed where the sweep removes one, and an answer where a packet changes more than a time.

use super::conn::record::Record;
use super::family::Family;
use crate::stats::counters::WorkerStats;

/// A client that asks again after less has not waited. TCP and SCTP wait a second for their first answer (RFC
/// 6298 section 2, RFC 9260 section 16); some of a network's delays may pull two packets together.
const PATIENCE_MS: u32 = 500;

/// A client begins again what it has begun before.
#[cold]
pub(super) fn asked_again<F: Family>(stats: &WorkerStats, record: &mut Record<F>, now_ms: u32) {
    let has_waited = now_ms.wrapping_sub(record.seen_ms) >= PATIENCE_MS;
    if has_waited && record.is_unanswered() && record.count_unanswered() {
        stats.answers.asked_again(record.backend_id());
    }
}

/// A connection's time is over.
pub(super) fn lapsed<F: Family>(stats: &WorkerStats, record: &Record<F>) {
    if record.is_unanswered() && !record.is_counted_unanswered() {
        stats.answers.lapsed(record.backend_id());
    }
}
