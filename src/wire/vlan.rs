//! VLAN tags (IEEE 802.1Q, clauses 9.3 to 9.6).
//!
//! ```text
//! 0            6            12     14     16     18     20     22
//! │ destination│ source     │ type │ payload …                         untagged
//! │ destination│ source     │ TPID │ TCI  │ type │ payload …           tagged: 802.1Q
//! │ destination│ source     │ TPID │ TCI  │ TPID │ TCI  │ type │ …     two tags: QinQ
//!                           └ outer, 88a8 ┘└ inner, 8100 ┘
//!
//! TCI: PCP (3 bits, priority) │ DEI (1 bit, may be dropped) │ VID (12 bits, which VLAN)
//! ```
//!
//! A tag pushes the frame's type back, so that what stands where the type would be says that there
//! is one. VID 0 names no VLAN: such a tag carries a priority only. VID 4095 is reserved.
//!
//! The outer of two tags has a TPID of its own in the standard (`88a8`, a provider's), but switches
//! older than that, and Linux's packet sockets, write `8100` there too.

use std::fmt;

use super::{Be16, ether};

/// TPID of an outer tag, the provider's (S-TAG).
pub const OUTER: u16 = 0x88a8;
/// TPID of an inner or only tag, the customer's (C-TAG).
pub const TAG: u16 = ether::VLAN;
/// Where a frame's first tag, or else its type, stands.
pub const AT: usize = 12;
/// Bytes of one tag.
pub const LEN: usize = size_of::<Tag>();
/// The VID's bits of the TCI.
const VID_MASK: u16 = 0x0fff;

/// Does this, where a type could stand, begin a tag?
#[inline(always)]
pub fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, TAG | OUTER)
}

/// One tag.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(C)]
pub struct Tag {
    /// Which kind of tag.
    pub tpid: Be16,
    /// Priority, and which VLAN.
    pub tci: Be16,
}

impl Tag {
    /// A tag of the lowest priority that must not be dropped first: PCP and DEI are zero.
    pub fn new(tpid: u16, vid: Vid) -> Self {
        Self { tpid: tpid.into(), tci: vid.get().into() }
    }

    /// Its VID as received: 0 to 4095.
    #[inline(always)]
    pub fn vid(self) -> u16 {
        self.tci.get() & VID_MASK
    }
}

/// Which VLAN: 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vid(u16);

impl Vid {
    /// The lowest.
    pub const MIN: Self = Self(1);
    /// The highest.
    pub const MAX: Self = Self(0x0ffe);

    /// A VLAN of that number, if there can be one.
    pub fn new(number: u16) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&number).then_some(Self(number))
    }

    /// Its number.
    #[inline(always)]
    pub fn get(self) -> u16 {
        self.0
    }
}

/// The tags that make frames of a link a port's: one, or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tags {
    /// Next to the addresses: the only one, or the outer of two.
    pub outer: Vid,
    /// Next to the payload, if there are two.
    pub inner: Option<Vid>,
}

impl Tags {
    /// Bytes they take.
    pub fn length(self) -> usize {
        LEN * (1 + usize::from(self.inner.is_some()))
    }
}

/// As in the configuration: `100`, `[200, 100]`.
impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inner {
            None => self.outer.0.fmt(f),
            Some(inner) => write!(f, "[{}, {}]", self.outer.0, inner.0),
        }
    }
}
