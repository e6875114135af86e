//! A VLAN interface for kernels built without one: a TAP whose frames leave with tags, through a
//! second TAP that is plugged where the tagged link is.
//!
//! ```text
//!   host: stack ─► eth0.100 (TAP) ─► tags on ──► trunk (TAP, moved to the switch) ─► bridge
//!         stack ◄─ eth0.100 (TAP) ◄─ tags off ◄─ trunk ◄─ bridge
//!                                       └ other tags, or none: not for this interface
//! ```
//!
//! What a frame loses on a link that is down is lost, as on any link.

use std::thread;

use anyhow::{Context as _, Result, bail};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// Printed when both interfaces are there.
pub const READY: &str = "ready";

/// The two link-layer addresses in front of everything.
const ADDRESSES: usize = 12;
/// TPIDs: of an outer tag (802.1ad), and of an inner or only one (802.1Q).
const TPIDS: [[u8; 2]; 2] = [[0x88, 0xa8], [0x81, 0x00]];

/// The interface, and the tags of its frames.
#[derive(Clone, Debug)]
pub struct Vlan {
    /// The interface with the frames without tags.
    pub interface: String,
    /// The one with those that have them.
    pub trunk: String,
    /// MTU of `interface`.
    pub mtu: u16,
    /// VIDs, the outer tag's first.
    pub vids: Vec<u16>,
}

/// Makes both interfaces and moves frames until the process is ended.
pub fn run(vlan: &Vlan) -> Result<()> {
    if !matches!(vlan.vids.len(), 1 | 2) {
        bail!("expected one VID or two");
    }
    let make = |name: &str, mtu: u16| -> Result<SyncDevice> {
        let builder = DeviceBuilder::new().name(name).layer(Layer::L2).mtu(mtu);
        builder.build_sync().with_context(|| format!("making {name}"))
    };
    let inside = make(&vlan.interface, vlan.mtu)?;
    let trunk = make(&vlan.trunk, vlan.mtu + 8)?;
    println!("{READY}");
    thread::scope(|scope| {
        let out = scope.spawn(|| carry(&inside, &trunk, |frame| put_on(frame, &vlan.vids)));
        carry(&trunk, &inside, |frame| take_off(frame, &vlan.vids))?;
        out.join().unwrap_or(Ok(()))
    })
}

/// Moves frames from one interface to the other, changed.
fn carry(
    from: &SyncDevice,
    to: &SyncDevice,
    change: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<()> {
    let mut buffer = vec![0; 65536];
    loop {
        let length = from.recv(&mut buffer).context("reading frames")?;
        if let Some(frame) = change(buffer.get(..length).unwrap_or_default()) {
            let _lost_if_down = to.send(&frame);
        }
    }
}

/// The frame with tags of the standard's types and no priority.
fn put_on(frame: &[u8], vids: &[u16]) -> Option<Vec<u8>> {
    let (addresses, rest) = frame.split_at_checked(ADDRESSES)?;
    let mut tagged = addresses.to_vec();
    for (vid, tpid) in vids.iter().zip(TPIDS.iter().skip(2 - vids.len())) {
        tagged.extend(tpid);
        tagged.extend(vid.to_be_bytes());
    }
    tagged.extend(rest);
    Some(tagged)
}

/// The frame without tags, if it has exactly these.
fn take_off(frame: &[u8], vids: &[u16]) -> Option<Vec<u8>> {
    let whole = put_on(frame.get(..ADDRESSES)?, vids)?;
    let (tagged, rest) = frame.split_at_checked(whole.len())?;
    let more = rest.get(..2).is_some_and(|kind| TPIDS.iter().any(|tpid| tpid == kind));
    (tagged == whole && !more).then(|| [frame.get(..ADDRESSES).unwrap_or_default(), rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_with_exactly_these_tags_come_through_and_come_through_whole() {
        let frame = [&[7; 12][..], &[8, 0], &[1; 46]].concat();
        let one = put_on(&frame, &[100]).unwrap();
        let two = put_on(&frame, &[200, 100]).unwrap();
        assert_eq!(one[12..18], [0x81, 0, 0, 100, 8, 0]);
        assert_eq!(two[12..22], [0x88, 0xa8, 0, 200, 0x81, 0, 0, 100, 8, 0]);
        assert_eq!(take_off(&one, &[100]), Some(frame.clone()));
        assert_eq!(take_off(&two, &[200, 100]), Some(frame.clone()));
        for (frame, vids) in
            [(&frame, &[100][..]), (&one, &[101]), (&one, &[200, 100]), (&two, &[200])]
        {
            assert_eq!(take_off(frame, vids), None);
        }
    }
}
