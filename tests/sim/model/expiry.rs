//! What must be forgotten, and when: not before its time, and not long after.
//!
//! A sweep comes by every connection about once in two seconds, so for a while after its time a
//! connection may be there or not. The balancer's own count tells which; where several could have
//! gone, its list does.

use std::collections::HashSet;
use std::net::SocketAddr;

use shunt::dataplane::orders::ConnectionView;
use shunt::dataplane::snapshot::Protocol;

use super::states::Seat;
use super::{Connection, Model};
use crate::packet::Flow;

/// A round of the sweep, and as much again because records that are new make a round longer.
const ROUNDS_MS: u64 = 4_000;
/// While the daemon or its backend drains, a connection that both ends have closed is kept for this long.
const LINGER_MS: u64 = 1_000;

impl Model {
    /// It is `now_ms`, and the balancer counts so many connections.
    pub(crate) fn tick(
        &mut self,
        now_ms: u64,
        count: usize,
        list: &mut dyn FnMut() -> Vec<ConnectionView>,
    ) -> Result<(), String> {
        self.now_ms = now_ms;
        self.refresh();
        self.forget_pieces();
        let over: Vec<Flow> = self.over().map(|(flow, _)| *flow).collect();
        let gone: Vec<Flow> = if count == self.connections.len() {
            vec![]
        } else if count == self.connections.len() - over.len() {
            over
        } else {
            let there: HashSet<Flow> = list().iter().map(flow_of).collect();
            over.into_iter().filter(|flow| !there.contains(flow)).collect()
        };
        for flow in gone {
            if let Some(connection) = self.forget(&flow) {
                self.count_cleared(&connection);
                self.announce(&flow, &connection, &[Seat::Input, Seat::Output]);
            }
        }
        if count != self.connections.len() {
            let known = self.connections.len();
            return Err(format!("{count} connections, and there must be {known}"));
        }
        let is_late = |over_ms: u64| now_ms > over_ms + ROUNDS_MS;
        let late = self.connections.iter().find(|(_, it)| is_late(self.due_ms(it)));
        late.map_or(Ok(()), |(flow, connection)| {
            let over_ms = self.due_ms(connection);
            Err(format!("over since {over_ms} ms and still there: {flow:?}, {connection:?}"))
        })
    }

    /// Connections that may be forgotten, and since when.
    fn over(&self) -> impl Iterator<Item = (&Flow, u64)> {
        let since = |connection| self.over_ms(connection);
        let all = self.connections.iter().map(move |(flow, c)| (flow, since(c)));
        all.filter(|(_, over_ms)| *over_ms <= self.now_ms)
    }

    /// When a connection may be forgotten, if nothing else happens.
    fn over_ms(&self, connection: &Connection) -> u64 {
        let by_order_ms = self.cleared_ms(connection).unwrap_or(u64::MAX);
        self.silent_ms(connection).min(by_order_ms)
    }

    /// When it must be.
    fn due_ms(&self, connection: &Connection) -> u64 {
        // What was made since the order may be spared by it.
        let by_order_ms = self.cleared_ms(connection).filter(|ms| connection.made_ms < *ms);
        self.silent_ms(connection).min(by_order_ms.unwrap_or(u64::MAX))
    }

    /// When it has been silent for too long, or is nobody's.
    fn silent_ms(&self, connection: &Connection) -> u64 {
        let Some(weight) = self.config.backend(connection.place).weight else {
            return self.changed_ms;
        };
        let timeouts = self.config.timeouts_of(connection.place.service);
        let mut silence = connection.state.timeout_ms(timeouts);
        let drains = weight == 0 || !self.config.accepting;
        if drains && connection.state.is_closed() {
            silence = silence.min(LINGER_MS);
        }
        // A change of configuration may have made it over only then.
        (connection.seen_ms + silence).max(self.changed_ms)
    }

    /// The balancer's list says what the model knows: who, with whom, in which state.
    pub(crate) fn compare(&self, rows: &[ConnectionView]) -> Result<(), String> {
        for row in rows {
            let flow = flow_of(row);
            let Some(known) = self.connections.get(&flow) else {
                return Err(format!("{flow:?} is listed and is no connection"));
            };
            let (theirs, ours) = (format!("{:?}", row.state), known.state.name());
            let idle = u64::from(row.idle_ms) == self.now_ms - known.seen_ms;
            let local = known.answers.is_none_or(|answers| answers.to == row.local);
            let same_backend = crate::balancer::place_of(row.backend_id) == known.place;
            if theirs != ours || !idle || !local || !same_backend {
                return Err(format!("listed as {row:?}, and it is {known:?}"));
            }
        }
        if rows.len() == self.connections.len() {
            return Ok(());
        }
        Err(format!("{} listed of {} connections", rows.len(), self.connections.len()))
    }

    /// Connections there are.
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }
}

pub(super) fn flow_of(row: &ConnectionView) -> Flow {
    let protocol: Protocol = row.protocol;
    let (from, to): (SocketAddr, SocketAddr) = (row.client, row.vip);
    Flow { protocol, from, to }
}
