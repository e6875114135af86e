//! Small numbers with names, so that a port is never passed where a backend was meant.
//!
//! Every id is an index into a table of fixed size reserved at start ([`limits`]). Ids of services
//! and backends are handed out by the control plane and keep their meaning across reloads: a
//! connection names its backend by id and survives every reload that keeps the backend.

use std::fmt;

/// Sizes reserved at start. Full is a refusal with a message or a counted drop, never a surprise.
pub mod limits {
    /// Ports of one daemon, those without a device of their own included: fewer than 255.
    pub const PORTS: usize = 64;
    /// Devices of one daemon.
    pub const DEVICES: usize = 16;
    /// Workers of one daemon: one byte names one.
    pub const WORKERS: usize = 64;
    /// Services that may exist at once, those still draining included.
    pub const SERVICES: usize = 16_384;
    /// Networks of clients over all lists.
    pub const NETWORKS: usize = 1 << 20;
    /// Backends that may exist at once over all services, those still draining included.
    pub const BACKENDS: usize = 65_536;
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The id as an index into its table.
            #[inline(always)]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A worker: position in `shunt.workers`, from 0.
    WorkerId(u8)
);
id!(
    /// A port: position among the `[[port]]` tables of the configuration, from 0; those with a
    /// `device` first, then those with a `vlan`.
    PortId(u8)
);

impl PortId {
    /// Tells the two sides of a port apart.
    const TWIN: u8 = 1 << 7;

    /// The kernel's side of this port, its TAP: what the box's own programs send to a VIP is said to
    /// come by it, and so what goes back to them finds its way.
    #[must_use]
    pub const fn twin(self) -> Self {
        Self(self.0 | Self::TWIN)
    }

    /// Is it the kernel's side?
    #[inline(always)]
    pub const fn is_twin(self) -> bool {
        self.0 & Self::TWIN != 0
    }

    /// The port, whichever of its sides this is.
    #[inline(always)]
    #[must_use]
    pub const fn link(self) -> Self {
        Self(self.0 & !Self::TWIN)
    }
}

const _: () = assert!(limits::PORTS <= PortId::TWIN as usize, "a bit for the side is left");

id!(
    /// A service, below [`limits::SERVICES`].
    ServiceId(u32)
);
id!(
    /// A backend of one service (LVS: destination), below [`limits::BACKENDS`].
    BackendId(u32)
);
