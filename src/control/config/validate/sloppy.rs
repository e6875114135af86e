//! `sloppy`: may other packets than the first of a connection start one here?
//!
//! For clients that come over from another box, whose connections this one has never seen. Where
//! that cannot work, a service that asks for it is told why; `[shunt] sloppy` passes such services
//! by.

use super::super::error::Problems;
use super::super::plan::Service;
use super::super::schema;
use crate::dataplane::snapshot::{ClientAddress, Mode, Protocol, SynCookies};

/// What the service says, or else what holds `everywhere`.
pub(super) fn sloppy(
    problems: &mut Problems,
    written: &schema::Service,
    service: &Service,
    everywhere: bool,
) -> bool {
    let obstacle = obstacle(service);
    let Some(value) = &written.sloppy else { return everywhere && obstacle.is_none() };
    let wanted = *value.get_ref();
    if let Some(obstacle) = obstacle.filter(|_| wanted) {
        problems.error(value.span(), format!("`sloppy` {obstacle}"));
    }
    wanted
}

/// Why a service cannot take a connection over in the middle.
fn obstacle(service: &Service) -> Option<&'static str> {
    if !service.speaks(Protocol::Tcp) && !service.speaks(Protocol::Sctp) {
        return Some("is for tcp and sctp: every datagram starts a connection anyway");
    }
    if service.backends.iter().any(|backend| backend.mode == Mode::Fullnat) {
        return Some(
            "cannot be had in mode `fullnat`: the backend knows the connection by a local address \
             and port that only the box before could tell",
        );
    }
    if service.syn_cookies != SynCookies::Never {
        return Some(
            "and `syn_cookies` exclude each other: any ACK would make a connection, not only one \
             that brings a cookie",
        );
    }
    (service.client_address != ClientAddress::None).then_some(
        "and `client_address` exclude each other: only the box that put the header in can tell by \
         how much the numbers behind it are shifted",
    )
}
