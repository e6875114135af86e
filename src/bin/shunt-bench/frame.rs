//! Writing packets: a template and its checksums once, addresses and deltas for each.

use shunt::dataplane::conn::key::FlowKey;
use shunt::wire::Mac;
use shunt::wire::checksum::{self, Delta};

/// Frame check sequence: counted in a frame's size, never in memory.
const FCS: usize = 4;
const ETHER: usize = 14;
const IP: usize = 20;
const TCP: usize = 20;
/// A frame of headers alone.
const BARE: u16 = 58;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const SYN: u8 = 0x02;
/// Windows by which packets of established connections are told from those of handshakes.
const ESTABLISHED_WINDOW: [u8; 2] = [0xff, 0xff];
const HANDSHAKE_WINDOW: [u8; 2] = [0x10, 0];

/// A TCP segment without a place to go: all but addresses and ports is there.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    ip_checksum: u16,
    tcp_checksum: u16,
}

impl Template {
    /// An ACK in a frame of `size` bytes, FCS included.
    pub(crate) fn ack(size: u16, source: Mac, destination: Mac) -> Self {
        Self::new(size, ACK, source, destination)
    }

    /// A SYN in a frame of the smallest size.
    pub(crate) fn syn(source: Mac, destination: Mac) -> Self {
        Self::new(64, SYN, source, destination)
    }

    /// A frame for a [`Handshake`].
    pub(crate) fn bare(source: Mac, destination: Mac) -> Self {
        Self::new(BARE, SYN, source, destination)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a frame is at most 1518 bytes")]
    fn new(size: u16, flags: u8, source: Mac, destination: Mac) -> Self {
        let mut bytes = vec![0; usize::from(size) - FCS];
        let payload = bytes.len() - ETHER - IP - TCP;
        bytes[0..6].copy_from_slice(&destination.0);
        bytes[6..12].copy_from_slice(&source.0);
        bytes[12..14].copy_from_slice(&[0x08, 0x00]);
        bytes[14] = 0x45;
        bytes[16..18].copy_from_slice(&((IP + TCP + payload) as u16).to_be_bytes());
        bytes[20] = 0x40;
        bytes[22..24].copy_from_slice(&[64, 6]);
        bytes[46] = 5 << 4;
        bytes[47] = flags;
        bytes[48..50].copy_from_slice(&ESTABLISHED_WINDOW);
        let ip_checksum = checksum::checksum(&bytes[14..34]);
        let tcp_checksum = checksum::tcp(0, &bytes[34..]);
        Self { bytes, ip_checksum, tcp_checksum }
    }

    /// Bytes of the frame in memory.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes the segment with this key into a frame of [`Template::len`] bytes.
    pub(crate) fn write(&self, frame: &mut [u8], key: FlowKey) {
        let addresses = Delta::of_u64(0, key.addresses);
        let all = addresses.plus(Delta::of_u32(0, key.ports));
        frame.copy_from_slice(&self.bytes);
        frame[24..26].copy_from_slice(&addresses.apply(self.ip_checksum).to_ne_bytes());
        frame[26..34].copy_from_slice(&key.addresses.to_ne_bytes());
        frame[34..38].copy_from_slice(&key.ports.to_ne_bytes());
        frame[50..52].copy_from_slice(&all.apply(self.tcp_checksum).to_ne_bytes());
    }
}

/// A segment of a handshake, without data or options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    pub(crate) key: FlowKey,
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
}

impl Handshake {
    /// Writes what is its own into a frame of [`Template::bare`] that has its key.
    pub(crate) fn write(&self, frame: &mut [u8]) {
        frame[38..42].copy_from_slice(&self.sequence.to_be_bytes());
        frame[42..46].copy_from_slice(&self.acknowledgment.to_be_bytes());
        frame[47] = self.flags;
        frame[48..50].copy_from_slice(&HANDSHAKE_WINDOW);
        frame[50..52].copy_from_slice(&[0, 0]);
        let checksum = checksum::tcp(self.key.addresses, &frame[34..54]);
        frame[50..52].copy_from_slice(&checksum.to_ne_bytes());
    }
}

/// The first two segments of a handshake: what has SYN.
pub(crate) fn handshake_of(frame: &[u8]) -> Option<Handshake> {
    let word = |at: usize| Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?));
    let flags = frame.get(47).copied().filter(|flags| flags & SYN != 0)?;
    Some(Handshake { key: key_of(frame)?, flags, sequence: word(38)?, acknowledgment: word(42)? })
}

/// Is it one of [`Template::ack`]'s, however translated?
pub(crate) fn is_established(frame: &[u8]) -> bool {
    frame.get(47) == Some(&ACK) && frame.get(48..50) == Some(&ESTABLISHED_WINDOW)
}

/// The key of a TCP frame, or `None` if it is none.
pub(crate) fn key_of(frame: &[u8]) -> Option<FlowKey> {
    let addresses = u64::from_ne_bytes(frame.get(26..34)?.try_into().ok()?);
    let ports = u32::from_ne_bytes(frame.get(34..38)?.try_into().ok()?);
    Some(FlowKey { addresses, ports, protocol: *frame.get(23)? })
}

/// Are both checksums of a TCP frame right?
pub(crate) fn is_right(frame: &[u8]) -> bool {
    let (Some(ip), Some(key)) = (frame.get(14..34), key_of(frame)) else { return false };
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let Some(segment) = frame.get(34..ETHER + total) else { return false };
    checksum::verify(ip) && checksum::tcp(key.addresses, segment) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_read_as_it_was_written_and_its_checksums_are_right() {
        let key = FlowKey::new(6, ([20, 0, 0, 1].into(), 7), ([198, 51, 100, 10].into(), 80));
        let syn = Handshake { key, flags: SYN | ACK, sequence: 9, acknowledgment: 1 << 31 };
        let template = Template::bare(Mac::default(), Mac::default());
        let mut frame = vec![0; template.len()];
        template.write(&mut frame, key);
        syn.write(&mut frame);
        assert!(is_right(&frame));
        assert_eq!(handshake_of(&frame), Some(syn));
        assert!(!is_established(&frame));
        let template = Template::ack(64, Mac::default(), Mac::default());
        let mut frame = vec![0; template.len()];
        template.write(&mut frame, key);
        assert_eq!((handshake_of(&frame), is_established(&frame)), (None, true));
    }
}
