//! The slow path: a TAP for every port, through which the kernel speaks for this box.
//!
//! ```text
//!  worker n ── punt lane n ──► drain (polls) ──► TAP of the frame's port ──► kernel
//!  worker 0 ◄── inject lane ◄── one reader per TAP (woken by the kernel) ◄── kernel
//! ```
//!
//! ARP, ping of the box, BGP, ssh: all of it is the kernel's, on an interface that carries the
//! port's own link-layer address, the box's addresses, the VIPs and the local addresses. Workers
//! make no system call, so nobody wakes this side: the lanes are polled, often while frames come
//! and seldom when none do ([`pace`]).
//!
//! Limits: a poll moves at most [`pump::FRAMES_PER_POLL`] frames of a lane, a wake-up as many of a
//! TAP; what a full TAP or lane does not take is dropped and counted. IPv6 is off on a TAP that
//! carries no address of it.

use std::io;

use tun_rs::{AsyncDevice, DeviceBuilder, Layer};

use super::parts::TapSpec;
use crate::ids::PortId;

mod addresses;
pub mod aim;
pub mod keep;
pub mod own;
pub mod pace;
pub mod place;
pub mod pump;
pub mod setup;
mod sysctls;

/// Why a TAP could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PuntError {
    /// Somebody else's interface has the name.
    #[error(
        "port `{port}`: an interface named `{tap}` exists already; \
         give the port another `tap`, or remove it: ip link del {tap}"
    )]
    Taken {
        /// The port's name.
        port: String,
        /// The interface's name.
        tap: String,
    },
    /// The kernel refused to make it.
    #[error("port `{port}`: cannot make TAP `{tap}`: {source}{}", hint(.source))]
    Create {
        /// The port's name.
        port: String,
        /// The interface's name.
        tap: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody else's route leads to the same destination.
    #[error(
        "port `{port}`: there is already a route {found}; remove it, or leave this route out \
         ({wanted})"
    )]
    RouteTaken {
        /// The port's name.
        port: String,
        /// The route that is there.
        found: String,
        /// The port's own.
        wanted: String,
    },
    /// The kernel refused part of its configuration.
    #[error("port `{port}`: cannot set up TAP `{tap}`: {what}: {source}")]
    Setup {
        /// The port's name.
        port: String,
        /// The interface's name.
        tap: String,
        /// The step that failed.
        what: String,
        /// What the kernel said.
        source: Box<rtnetlink::Error>,
    },
}

/// What helps when making a TAP is not allowed or not possible at all; of any other refusal the
/// kernel's own word says enough.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; CAP_NET_ADMIN is needed: run as root",
        io::ErrorKind::NotFound => "; /dev/net/tun is needed: modprobe tun",
        _ => "",
    }
}

/// A TAP that exists; it vanishes when this is dropped.
pub struct Twin {
    /// The port it belongs to.
    pub port: PortId,
    /// Its index in the kernel.
    pub index: u32,
    /// Longest frame it yields.
    pub frame_max: usize,
    device: AsyncDevice,
}

impl std::fmt::Debug for Twin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Twin")
            .field("port", &self.port)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl Twin {
    /// Makes the interface, down and without addresses: [`setup::configure`] does the rest.
    fn create(spec: &TapSpec) -> Result<Self, PuntError> {
        let failed =
            |source| PuntError::Create { port: spec.port.clone(), tap: spec.tap.clone(), source };
        let builder = DeviceBuilder::new().name(spec.tap.clone()).layer(Layer::L2).enable(false);
        let builder = builder.mac_addr(spec.mac.0).mtu(spec.mtu);
        let device = builder.build_async().map_err(failed)?;
        let index = device.if_index().map_err(failed)?;
        let frame_max = usize::from(spec.mtu) + ETHERNET_OVERHEAD;
        Ok(Self { port: spec.id, index, frame_max, device })
    }
}

/// Ethernet header and one VLAN tag.
const ETHERNET_OVERHEAD: usize = 18;

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn only_a_refusal_that_rights_would_mend_speaks_of_rights() {
        for (code, ending) in [
            (Errno::PERM, "; CAP_NET_ADMIN is needed: run as root"),
            (Errno::NOENT, "; /dev/net/tun is needed: modprobe tun"),
            (Errno::INVAL, "Invalid argument (os error 22)"),
        ] {
            let source = io::Error::from_raw_os_error(code.raw_os_error());
            let error = PuntError::Create { port: "wan".into(), tap: "wan0".into(), source };
            assert!(error.to_string().ends_with(ending), "{error}");
        }
    }
}
