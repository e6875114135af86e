//! Who gets a new connection.
//!
//! A scheduler is one small file with a [`Method`] and its name in the list below; the
//! configuration, `shunt schedule` and a test of the documents take it from there.
//!
//! ```text
//! control plane                       each worker                          all workers
//!  Method::prepare ──► snapshot ──►  Chooser::place ─► Method::pick ◄──── Loads (connections of
//!  (Maglev table, slots)               Turn, tree, cache   │                each backend)
//!                                                          └─► take a place, or pick again
//! ```
//!
//! All of them see a service's backends *newest first* and take only those that are *open*: their
//! weight is above zero and they have not had enough ([`Limit`]). One worker reproduces IPVS's
//! recorded sequences exactly. Several share the [`Loads`], keep a [`Turn`] each and start at
//! different backends; what is hashed is the same on every worker and every box, as no hash
//! has a seed.
//!
//! Nothing here allocates: tables are made by the control plane, everything else at start.

mod cache;
mod choice;
mod chooser;
mod hash;
mod least;
mod method;
mod open;
mod quic;
mod random;
mod tree;

pub use chooser::Chooser;
pub use method::{Entry, Flag, Flags, Flow, Method, Prepared, Scheduler, Scheduling, Slots};
pub use quic::{ServerId, ServerIdError};

/// Names the files of the schedulers once, and lists them in that order.
macro_rules! schedulers {
    ($($name:ident)+) => {
        $(mod $name;)+

        impl Scheduler {
            /// All there are.
            pub const ALL: &'static [Scheduler] = &[$(Scheduler::of(&$name::METHOD)),+];
        }
    };
}

schedulers! {
    rr
    wrr
    lc
    wlc
    sed
    nq
    p2c
    twos
    sh
    mh
    qh
    dh
    fo
    ovf
    lblc
    lblcr
    none
}

impl Scheduler {
    /// In turn.
    pub const RR: Self = Self::of(&rr::METHOD);
    /// In turn by weight: the default of the configuration.
    pub const WRR: Self = Self::of(&wrr::METHOD);
    /// Nobody.
    pub const NONE: Self = Self::of(&none::METHOD);
}

#[cfg(test)]
mod tests;
