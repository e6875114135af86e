//! TCP handshakes over IPv4, segment by segment, for what must answer them.

use std::net::Ipv4Addr;

use shunt::dataplane::conn::key::FlowKey;
use shunt::wire::checksum;

use crate::frame::{Layout, flags};
use crate::options::Transport;

/// By which packets of handshakes are told from those of established connections, whose window is
/// all ones.
const WINDOW: [u8; 2] = [0x10, 0];
const ESTABLISHED_WINDOW: [u8; 2] = [0xff, 0xff];

/// A segment of a handshake, without data or options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    pub(crate) key: FlowKey,
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
}

impl Handshake {
    /// Writes what is its own into a frame without payload that has its key.
    pub(crate) fn write(&self, frame: &mut [u8]) {
        frame[38..42].copy_from_slice(&self.sequence.to_be_bytes());
        frame[42..46].copy_from_slice(&self.acknowledgment.to_be_bytes());
        frame[47] = self.flags;
        frame[48..50].copy_from_slice(&WINDOW);
        frame[50..52].copy_from_slice(&[0, 0]);
        let checksum = checksum::tcp(self.key.addresses, &frame[34..54]);
        frame[50..52].copy_from_slice(&checksum.to_ne_bytes());
    }
}

/// The first two segments of a handshake: what has SYN.
pub(crate) fn handshake_of(frame: &[u8]) -> Option<Handshake> {
    let word = |at: usize| Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?));
    let flags = frame.get(47).copied().filter(|flags| flags & flags::SYN != 0)?;
    let key = Layout::plain(Transport::Tcp).key_of::<Ipv4Addr>(frame)?;
    Some(Handshake { key, flags, sequence: word(38)?, acknowledgment: word(42)? })
}

/// Is it of an established connection, however translated?
pub(crate) fn is_established(frame: &[u8]) -> bool {
    frame.get(47) == Some(&flags::ACK) && frame.get(48..50) == Some(&ESTABLISHED_WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Template;
    use shunt::wire::Mac;

    #[test]
    fn a_handshake_is_read_as_it_was_written_and_its_checksums_are_right() {
        let key = FlowKey::new(6, ([20, 0, 0, 1].into(), 7), ([198, 51, 100, 10].into(), 80));
        let flags = flags::SYN | flags::ACK;
        let syn = Handshake { key, flags, sequence: 9, acknowledgment: 1 << 31 };
        let template = Template::bare::<Ipv4Addr>([Mac::default(); 2]);
        let mut frame = vec![0; template.len()];
        template.write(&mut frame, key, 0);
        syn.write(&mut frame);
        assert!(Layout::plain(Transport::Tcp).is_right::<Ipv4Addr>(&frame));
        assert_eq!(handshake_of(&frame), Some(syn));
        assert!(!is_established(&frame));
        let template =
            Template::new::<Ipv4Addr>(64, Transport::Tcp, flags::ACK, [Mac::default(); 2]);
        let mut frame = vec![0; template.len()];
        template.write(&mut frame, key, 0);
        assert_eq!((handshake_of(&frame), is_established(&frame)), (None, true));
    }
}
