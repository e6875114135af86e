//! Quorum: is enough of a service left to serve, or do the sorry backends take over?
//!
//! ```text
//!                 live < quorum - hysteresis, or 0
//!        whole ─────────────────────────────────────► lost
//!          ▲                                            │
//!          └────────────────────────────────────────────┘
//!                 live >= quorum + hysteresis
//! ```
//!
//! `live` is the sum of the weights of backends that are up, as keepalived counts it: a backend that the
//! operator drains counts for nothing, and one in its slow start for all of its weight.

/// Is the service whole, after so much of it is up? `was_whole` is what it was.
pub fn is_whole(was_whole: bool, live: u64, quorum: u32, hysteresis: u32) -> bool {
    let (quorum, hysteresis) = (u64::from(quorum), u64::from(hysteresis));
    if was_whole {
        live > 0 && live >= quorum.saturating_sub(hysteresis)
    } else {
        live >= quorum + hysteresis
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is live, and whether the service is whole then.
    type Steps = &'static [(u64, bool)];

    /// Of weights that rise and fall, one after the other.
    #[test]
    fn a_quorum_is_lost_below_the_band_and_gained_above_it() {
        let table: [(u32, u32, Steps); 4] = [
            (1, 0, &[(3, true), (1, true), (0, false), (1, true)]),
            (3, 0, &[(3, true), (2, false), (3, true)]),
            (5, 2, &[(3, true), (2, false), (6, false), (7, true), (3, true), (2, false)]),
            // Nothing at all is never enough, however low the band reaches.
            (2, 2, &[(1, true), (0, false), (3, false), (4, true)]),
        ];
        for (quorum, hysteresis, steps) in table {
            let mut whole = true;
            for (live, expected) in steps {
                whole = is_whole(whole, *live, quorum, hysteresis);
                assert_eq!(whole, *expected, "quorum {quorum} ± {hysteresis}, live {live}");
            }
        }
    }
}
