//! `--max-connections`, `--resume-below` and `--end` of `shunt schedule`: how many connections a
//! backend takes, and which of them end, so that there is room again.
//!
//! ```text
//! --max-connections 10.44.0.11:80=3    full with three      (IPVS: upper threshold, -x)
//! --resume-below 10.44.0.11:80=2       open below two       (IPVS: lower threshold, -y)
//! --end 1@5                            flow 1 is over before flow 5
//! ```

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use super::{ScheduleError, address, place};
use crate::dataplane::snapshot::Limit;

/// Most connections that a limit may name.
const CONNECTIONS_MAX: u32 = 4_294_967_294;

/// A backend and a number of its connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) address: SocketAddr,
    pub(super) connections: u32,
}

/// A connection that ends before a flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Whose.
    pub(super) flow: u64,
    /// Before which flow.
    pub(super) at: u64,
}

/// `ADDR=N`.
pub(super) fn bound(text: &str) -> Result<Bound, String> {
    let (before, after) = text.split_once('=').ok_or("expected ADDR=N")?;
    let connections = after.parse().ok().filter(|n| (1..=CONNECTIONS_MAX).contains(n));
    let connections = connections
        .ok_or_else(|| format!("`{after}` is not a limit; expected 1 to {CONNECTIONS_MAX}"))?;
    Ok(Bound { address: address(before)?, connections })
}

/// `M@N`.
pub(super) fn end(text: &str) -> Result<End, String> {
    let (what, at) = place(text)?;
    let flow = what.parse().ok().filter(|flow| *flow > 0);
    let flow = flow.ok_or("expected M@N: the flow (from 1) that ends, and before which")?;
    Ok(End { flow, at })
}

/// The limit of each backend that has one.
pub(super) fn limits(
    most: &[Bound],
    resume: &[Bound],
    is_known: impl Fn(SocketAddr) -> bool,
) -> Result<HashMap<SocketAddr, Limit>, ScheduleError> {
    let mut limits = HashMap::new();
    for Bound { address, connections } in most {
        if !is_known(*address) {
            return Err(ScheduleError::NeverThere(*address));
        }
        limits.insert(*address, Limit { most: *connections, least: 0 });
    }
    for Bound { address, connections } in resume {
        let limit = limits.get_mut(address).filter(|limit| *connections <= limit.most);
        limit.ok_or(ScheduleError::Resume(*address))?.least = *connections;
    }
    Ok(limits)
}

/// Flows that end, by the flow before which they do.
pub(super) fn ends(ends: &[End], count: u64) -> Result<BTreeMap<u64, Vec<u64>>, ScheduleError> {
    let mut by_flow = BTreeMap::<u64, Vec<u64>>::new();
    for End { flow, at } in ends {
        if flow >= at || *at > count {
            return Err(ScheduleError::End { flow: *flow, at: *at, flows: count });
        }
        by_flow.entry(*at).or_default().push(*flow);
    }
    Ok(by_flow)
}
