//! `one_packet`, `client_address…` and `persistence_…` of a service: what goes with its protocol,
//! modes and family.

use super::super::client_address::{WORDS, word};

use super::super::error::Problems;
use super::super::plan::Persistence;
use super::super::schema::{self, Spanned};
use super::lists::names;
use super::value::{choice, integer};
use super::vips::PlacedVip;
use crate::control::prefix::width;
use crate::dataplane::snapshot::{ClientAddress, Mode, Protocol};

/// Is every datagram scheduled by itself?
pub(super) fn one_packet(
    problems: &mut Problems,
    written: &schema::Service,
    spoken: &[Protocol],
) -> bool {
    let Some(value) = written.one_packet.as_ref().filter(|value| *value.get_ref()) else {
        return false;
    };
    if let Some(protocol) = spoken.first().filter(|_| !spoken.contains(&Protocol::Udp)) {
        let message = format!("`one_packet` is for udp: a packet of {protocol} is not alone");
        problems.error(value.span(), message);
    }
    true
}

/// How backends learn the client's address.
pub(super) fn client_address(
    problems: &mut Problems,
    written: &schema::Service,
    spoken: &[Protocol],
    modes: &[Option<Mode>],
) -> ClientAddress {
    let value = written.client_address.as_ref();
    let known = choice(problems, "client_address", value, &WORDS, ClientAddress::None);
    let (Some(value), true) = (value, known != ClientAddress::None) else { return known };
    // Of several protocols it is for those it is made for.
    let refusals = spoken.iter().map(|protocol| refused_by_protocol(known, *protocol));
    let refusal = refusals
        .reduce(|all, one| all.and(one).and(all))
        .flatten()
        .or_else(|| modes.iter().flatten().find_map(|mode| refused_by_mode(known, *mode)));
    if let Some(refusal) = refusal {
        problems.error(value.span(), format!("`{}` {refusal}", word(known)));
    }
    known
}

/// The lists whose clients bring what says who they are themselves.
pub(super) fn brought_by(
    problems: &mut Problems,
    written: &schema::Service,
    client_address: ClientAddress,
    lists: &[&str],
) -> Vec<String> {
    let value = written.client_address_from.as_ref();
    let names = names(problems, "client_address_from", value, lists);
    let idle = !names.is_empty() && client_address == ClientAddress::None;
    if let Some(value) = value.filter(|_| idle) {
        let message = "this does nothing without `client_address`";
        let help = "for example `client_address = \"proxy-v2\"`";
        problems.error_help(value.span(), message, help);
    }
    names
}

/// Seconds a client is remembered at least: connections that live say so every 16.
const PERSISTENCE_MIN_S: i64 = 20;
/// Seconds a client is remembered at most: 24 days, half of what a worker's clock can tell apart.
const PERSISTENCE_MAX_S: i64 = 24 * 24 * 3600;

/// Do a client's connections go to one backend? `persistence_s` says so; the others say how.
pub(super) fn persistence(
    problems: &mut Problems,
    written: &schema::Service,
    vips: &[PlacedVip],
) -> Option<Persistence> {
    let bits = vips.first().map_or(32, |(address, _)| width(address.vip));
    let prefix = written.persistence_prefix.as_ref();
    let prefix = integer(problems, "persistence_prefix", prefix, 0..=i64::from(bits), bits);
    let to_drained = written.persistence_to_drained.as_ref();
    if let Some(seconds) = &written.persistence_s {
        let range = PERSISTENCE_MIN_S..=PERSISTENCE_MAX_S;
        let timeout_s = integer(problems, "persistence_s", Some(seconds), range, 360);
        let to_drained = to_drained.is_some_and(|on| *on.get_ref());
        return Some(Persistence { timeout_s, prefix, to_drained });
    }
    let spans = [
        written.persistence_prefix.as_ref().map(Spanned::span),
        to_drained.filter(|on| *on.get_ref()).map(Spanned::span),
    ];
    for span in spans.into_iter().flatten() {
        let message = "this does nothing without `persistence_s`";
        problems.error_help(span, message, "for example `persistence_s = 360`");
    }
    None
}

fn refused_by_protocol(wanted: ClientAddress, protocol: Protocol) -> Option<&'static str> {
    match (protocol, wanted) {
        (Protocol::Sctp, _) => Some("is not for sctp: nothing tells the client's address there"),
        (Protocol::Udp, ClientAddress::Toa { .. }) => {
            Some("is not for udp: it is an option of TCP")
        }
        (Protocol::Udp, ClientAddress::ProxyV1) => {
            Some("is not for udp: it is a line of text in a stream; \"proxy-v2\" is")
        }
        _ => None,
    }
}

/// A mode in which the backend sees the client itself. Of these only NAT, which passes a
/// connection's packets both ways, can put something in front of the data.
fn refused_by_mode(wanted: ClientAddress, mode: Mode) -> Option<&'static str> {
    match (mode, wanted) {
        (Mode::Dr, _) => Some("is of no use in mode `dr`: the backend sees the client itself"),
        (Mode::Tunnel(_), _) => {
            Some("is of no use in mode `tunnel`: the backend sees the client itself")
        }
        (Mode::Nat, ClientAddress::Toa { .. }) => {
            Some("is of no use in mode `nat`: the backend sees the client itself")
        }
        _ => None,
    }
}
