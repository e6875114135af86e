//! What a scheduler is made of, and how a service names it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::choice::Choice;
use super::quic::{ServerId, ServerIds};
use super::tree::Rank;
use crate::stats::loads::Load;

/// A way of choosing a backend.
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct Method {
    /// Its name, as in `ipvsadm`.
    pub name: &'static str,
    /// When to use it: one line for the operator.
    pub when: &'static str,
    /// Flags it knows, by name.
    pub flags: &'static [(&'static str, Flag)],
    /// Does each backend need a server id of its own?
    pub needs_server_ids: bool,
    /// Is there a table whose size can be chosen?
    pub has_table: bool,
    /// Does the choice depend on the addresses and ports of a flow and on nothing else, so that every
    /// box makes the same?
    pub by_flow_alone: bool,
    /// What the control plane works out ahead, if anything.
    pub(super) prepare: Option<fn(&[Entry], Flags) -> Prepared>,
    /// Does it compare loads? Then one whose next hop is not known is passed over: with no connections
    /// it would draw all.
    pub(super) compares_loads: bool,
    /// What backends are compared by, if anything: a tree for each is kept.
    pub(super) ranks: &'static [fn(Load, u32) -> Rank],
    /// Chooses; the answer is a position in the list.
    pub(super) pick: fn(&mut Choice<'_>) -> Option<usize>,
}

impl Method {
    /// What most are: no flags, nothing prepared, nothing compared.
    pub(super) const fn new(
        name: &'static str,
        when: &'static str,
        pick: fn(&mut Choice<'_>) -> Option<usize>,
    ) -> Self {
        Self {
            name,
            when,
            flags: &[],
            needs_server_ids: false,
            has_table: false,
            by_flow_alone: false,
            prepare: None,
            compares_loads: false,
            ranks: &[],
            pick,
        }
    }
}

/// A scheduler, by name.
#[derive(Clone, Copy)]
pub struct Scheduler(&'static Method);

impl Scheduler {
    pub(super) const fn of(method: &'static Method) -> Self {
        Self(method)
    }

    /// The scheduler of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scheduler| scheduler.0.name == name)
    }

    /// What it is made of.
    #[inline]
    pub fn method(self) -> &'static Method {
        self.0
    }
}

impl PartialEq for Scheduler {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Scheduler {}

impl Hash for Scheduler {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl serde::Serialize for Scheduler {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

/// A variation of a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Hash the client's port too.
    Port,
    /// If the backend hashed to is not open, look on.
    Fallback,
}

/// The flags of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Flags {
    /// [`Flag::Port`].
    pub port: bool,
    /// [`Flag::Fallback`].
    pub fallback: bool,
    /// Size of the table, where there is one.
    pub slots: Slots,
}

/// Size of a Maglev table: one of the primes the kernel can be built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Slots(u32);

impl Slots {
    /// Those there are.
    pub const ALL: [u32; 10] =
        [251, 509, 1_021, 2_039, 4_093, 8_191, 16_381, 32_749, 65_521, 131_071];

    /// That many, if it is one of them.
    pub fn new(slots: u32) -> Option<Self> {
        Self::ALL.contains(&slots).then_some(Self(slots))
    }

    /// How many.
    pub fn count(self) -> u32 {
        self.0
    }
}

impl Default for Slots {
    /// The kernel's.
    fn default() -> Self {
        Self(4_093)
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Flags {
    /// These, and one more.
    #[must_use]
    pub fn with(self, flag: Flag) -> Self {
        match flag {
            Flag::Port => Self { port: true, ..self },
            Flag::Fallback => Self { fallback: true, ..self },
        }
    }

    fn has(self, flag: Flag) -> bool {
        match flag {
            Flag::Port => self.port,
            Flag::Fallback => self.fallback,
        }
    }

    /// Their names, as `scheduler` has them.
    pub fn names(self, scheduler: Scheduler) -> impl Iterator<Item = &'static str> {
        let flags = scheduler.method().flags.iter();
        flags.filter(move |(_, flag)| self.has(*flag)).map(|(name, _)| *name)
    }
}

/// A backend as the control plane's part of a scheduler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Address and port.
    pub address: SocketAddr,
    /// Its weight.
    pub weight: u32,
    /// The last weight above zero it had; 0 if it never had one.
    pub last_weight: u32,
    /// What it writes into connection ids.
    pub server_id: Option<ServerId>,
}

/// What the control plane worked out ahead. Positions are those of the list, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Slot to position.
    pub(super) slots: Box<[u16]>,
    /// Server id to position.
    pub(super) server_ids: ServerIds,
}

/// How a service chooses its backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// The method.
    pub scheduler: Scheduler,
    /// Its variations.
    pub flags: Flags,
    /// What was worked out ahead.
    prepared: Arc<Prepared>,
}

impl Scheduling {
    /// The scheduling of backends, given newest first.
    pub fn prepare(scheduler: Scheduler, flags: Flags, entries: &[Entry]) -> Self {
        let prepare = scheduler.method().prepare;
        let prepared = prepare.map(|prepare| prepare(entries, flags)).unwrap_or_default();
        Self { scheduler, flags, prepared: Arc::new(prepared) }
    }

    #[inline]
    pub(super) fn prepared(&self) -> &Prepared {
        &self.prepared
    }
}

impl Default for Scheduling {
    fn default() -> Self {
        Scheduler::WRR.into()
    }
}

impl From<Scheduler> for Scheduling {
    /// For schedulers that need nothing worked out ahead.
    fn from(scheduler: Scheduler) -> Self {
        Self::prepare(scheduler, Flags::default(), &[])
    }
}

/// A new connection, as far as schedulers ask.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The address the client asked for.
    pub vip: IpAddr,
    /// The payload of its first packet, if it is a UDP datagram.
    pub datagram: &'a [u8],
    /// Now, in worker milliseconds.
    pub now_ms: u32,
}
