//! Connections that end by order: all that were there when it was given, within a round of the sweep;
//! those made meanwhile may.

use std::collections::BTreeSet;

use super::{Connection, Model};
use crate::config::Place;

/// An order that is being obeyed.
#[derive(Clone, Debug)]
pub(super) struct Clearing {
    places: BTreeSet<Place>,
    since_ms: u64,
    /// Connections made since that have ended: by the order, if their worker had not finished with it.
    perhaps: u64,
}

impl Model {
    /// From now on the connections of these backends end.
    pub(crate) fn clear(&mut self, places: &[Place]) {
        let places = places.iter().copied().collect();
        self.clearing = Some(Clearing { places, since_ms: self.now_ms, perhaps: 0 });
    }

    /// All workers say that it is done, and how many have ended by order so far.
    pub(crate) fn has_cleared(&mut self, ended: u64) -> Result<(), String> {
        let Some(Clearing { places, since_ms, perhaps }) = self.clearing.take() else {
            return Ok(());
        };
        let is_left = |connection: &&Connection| {
            places.contains(&connection.place) && connection.made_ms < since_ms
        };
        if let Some(left) = self.connections.values().find(is_left) {
            return Err(format!("the order of {since_ms} ms is obeyed, and there is {left:?}"));
        }
        let seen = self.tally.cleared;
        if !(seen..=seen + perhaps).contains(&ended) {
            return Err(format!("{ended} were ended by order, they say, and it was {seen}"));
        }
        self.tally.cleared = ended;
        Ok(())
    }

    /// A connection has ended while there is an order, perhaps by that.
    pub(super) fn count_cleared(&mut self, connection: &Connection) {
        let Some(by_order_ms) = self.cleared_ms(connection) else { return };
        let was_there = connection.made_ms < by_order_ms;
        self.tally.cleared += u64::from(was_there);
        if let Some(clearing) = &mut self.clearing {
            clearing.perhaps += u64::from(!was_there);
        }
    }

    /// Since when a connection may be ended by order.
    pub(super) fn cleared_ms(&self, connection: &Connection) -> Option<u64> {
        let clearing = self.clearing.as_ref()?;
        let is_about = clearing.places.contains(&connection.place);
        is_about.then(|| clearing.since_ms.max(connection.made_ms))
    }
}
