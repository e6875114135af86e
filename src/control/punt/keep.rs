//! Keeping the TAPs as they were made: what somebody takes off them comes back.
//!
//! ```text
//! every second, and after a reload:
//!   link    up / down / gone ──► metric, status, one line in the log for each change
//!   address missing          ──► added again
//!   route   missing          ──► added again, never in the place of another
//! ```
//!
//! The kernel forgets the routes of a link that goes down, and anybody with `ip` can take an
//! address off it. The kernel is asked what is there rather than believed to have what was once
//! given to it, so an address that could not be added is tried again too.
//!
//! Limits: a TAP that was deleted stays away until a restart, for its device is held by the port; a
//! TAP set down stays down, for somebody wanted it so.

use std::collections::{BTreeSet, HashMap};

use futures_util::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::link::LinkFlags;

use super::addresses::{OnLink, add_address, present};
use super::place::Placed;
use super::setup;
use crate::control::parts::TapSpec;
use crate::control::prefix::width;
use crate::control::voice::Lines;
use crate::ids::PortId;
use crate::stats::slow::TapCounters;

/// What a TAP is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Up,
    Down,
    Gone,
}

/// What was found last.
#[derive(Debug, Default)]
pub struct Keeper {
    found: HashMap<PortId, Found>,
    /// Addresses that the kernel refuses, told of in the log already.
    refused: BTreeSet<OnLink>,
}

impl Keeper {
    /// Looks at every TAP and puts back what is missing. `addresses` are the single
    /// addresses that shall be there, besides the ports' own.
    pub async fn keep(
        &mut self,
        handle: &Handle,
        specs: &[TapSpec],
        twins: &[(PortId, u32)],
        addresses: &BTreeSet<Placed>,
        counters: &[TapCounters],
    ) {
        let Ok(present) = present(handle).await else { return };
        let mut lines = Lines::default();
        for spec in specs {
            let Some(index) = twins.iter().find(|(id, _)| *id == spec.id).map(|twin| twin.1) else {
                continue;
            };
            let found = look(handle, index).await;
            self.note(spec, found, counters);
            if found == Found::Gone {
                continue;
            }
            let hosts = addresses.iter().filter(|placed| placed.port == spec.id);
            let hosts = hosts.map(|placed| (index, placed.address, width(placed.address)));
            let own = spec.addresses.iter().map(|(address, length)| (index, *address, *length));
            for wanted in own.chain(hosts).filter(|wanted| !present.contains(wanted)) {
                self.put_back(handle, spec, wanted, &mut lines).await;
            }
            if found == Found::Up {
                put_back_routes(handle, spec, index).await;
            }
        }
        if let Some(kept) = lines.kept() {
            tracing::warn!(kept, "more addresses were missing; they were not logged");
        }
        self.refused.retain(|address| !present.contains(address));
    }

    fn note(&mut self, spec: &TapSpec, found: Found, counters: &[TapCounters]) {
        if let Some(counters) = counters.get(spec.id.index()) {
            let up = found == Found::Up && counters.lost.get() == 0;
            counters.up.set(u64::from(up));
        }
        let before = self.found.insert(spec.id, found);
        let (port, tap) = (&spec.port, &spec.tap);
        match found {
            _ if before == Some(found) => {}
            Found::Up if before.is_none() => {}
            Found::Up => tracing::info!(port, tap, "the TAP is up again"),
            Found::Down => tracing::warn!(
                port,
                tap,
                "the TAP is down: nothing of the kernel's passes; `ip link set up` mends it"
            ),
            Found::Gone => tracing::error!(
                port,
                tap,
                "the TAP was deleted: nothing of the kernel's passes until a restart"
            ),
        }
    }

    async fn put_back(
        &mut self,
        handle: &Handle,
        spec: &TapSpec,
        wanted: OnLink,
        lines: &mut Lines,
    ) {
        let (index, address, length) = wanted;
        let (port, network) = (&spec.port, format_args!("{address}/{length}"));
        match add_address(handle, index, address, length).await {
            Ok(()) if lines.may_say() => {
                tracing::warn!(port, address = %network, "an address was missing; put back");
            }
            Err(error) if self.refused.insert(wanted) && lines.may_say() => {
                tracing::warn!(port, address = %network, %error, "an address is missing and cannot be put back");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

async fn put_back_routes(handle: &Handle, spec: &TapSpec, index: u32) {
    for route in &spec.routes {
        if setup::add_route(handle, index, *route).await.is_ok() {
            let (destination, length, gateway) = route;
            let (port, to) = (&spec.port, format_args!("{destination}/{length}"));
            tracing::info!(port, %to, via = %gateway, "a route was missing; put back");
        }
    }
}

async fn look(handle: &Handle, index: u32) -> Found {
    match handle.link().get().match_index(index).execute().try_next().await {
        Ok(Some(link)) if link.header.flags.contains(LinkFlags::Up) => Found::Up,
        Ok(Some(_)) => Found::Down,
        Ok(None) | Err(_) => Found::Gone,
    }
}
