//! TCP segments of our own: written whole into a packet, whatever was in it.
//!
//! ```text
//! │ Ethernet │ IP, TTL 64 │ TCP │ MSS, SACK, timestamps, scale │          no payload
//! ```
//!
//! What is written between the client and its VIP goes through the same translation as what comes
//! from the client, so that a backend sees no difference.

use zerocopy::{FromZeros, IntoBytes};

use super::conn::key::FlowKey;
use super::family::Family;
use super::io::Packet;
use super::parse::Parsed;
use crate::wire::tcp::options;
use crate::wire::{Be16, Be32, Mac, Raw16, Raw32, checksum, ether, ipv4, tcp};

/// Most bytes of options we write: all there are.
const OPTIONS_MAX: usize = 20;
/// TTL of what is written.
pub(super) const TTL: u8 = 64;

/// What a segment says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Segment {
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: Options,
}

/// Options, in the order and with the filling that Linux has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) mss: Option<u16>,
    pub(super) sack: bool,
    pub(super) stamps: Option<(u32, u32)>,
    pub(super) scale: Option<u8>,
}

impl Options {
    /// Timestamps alone.
    pub(super) fn stamps(stamps: Option<(u32, u32)>) -> Self {
        Self { stamps, ..Self::default() }
    }

    /// The bytes, and how many: whole words.
    fn bytes(&self) -> ([u8; OPTIONS_MAX], usize) {
        let mut area = arrayvec::ArrayVec::<u8, OPTIONS_MAX>::new();
        let mut put = |bytes: &[u8]| area.try_extend_from_slice(bytes).unwrap_or_default();
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            put(&[options::MSS, 4, high, low]);
        }
        match (self.sack, self.stamps) {
            (true, _) => put(&[options::SACK_PERMITTED, 2]),
            (false, Some(_)) => put(&[options::NOP; 2]),
            (false, None) => {}
        }
        match (self.stamps, self.sack) {
            (Some((value, echo)), _) => {
                put(&[options::TIMESTAMPS, 10]);
                put(&value.to_be_bytes());
                put(&echo.to_be_bytes());
            }
            (None, true) => put(&[options::NOP; 2]),
            (None, false) => {}
        }
        if let Some(scale) = self.scale {
            put(&[options::NOP, options::WINDOW_SCALE, 3, scale]);
        }
        let length = area.len();
        let mut bytes = [0; OPTIONS_MAX];
        for (place, byte) in bytes.iter_mut().zip(area) {
            *place = byte;
        }
        (bytes, length)
    }
}

/// Who a frame is from, and to.
pub(super) type Stations = (Mac, Mac);

/// Makes a packet one of that key with `length` bytes behind its IP header, all headers up to there
/// written; where these begin. `None` without room.
pub(super) fn head<F: Family, P: Packet>(
    packet: &mut P,
    key: FlowKey<F>,
    (from, to): Stations,
    length: usize,
) -> Option<usize> {
    let l4 = ether::LEN + F::HEADER;
    if !packet.set_len(l4 + length) {
        return None;
    }
    let frame = packet.data_mut();
    let ethertype = if F::IS_V6 { ether::IPV6 } else { ether::IPV4 };
    let link = ether::Header { destination: to, source: from, ethertype: ethertype.into() };
    link.write_to_prefix(frame).ok()?;
    F::write_header(frame.get_mut(ether::LEN..)?, length, key.protocol, key.addresses)?;
    Some(l4)
}

/// Writes a segment with this key, from one station to the other. `None` without room.
pub(super) fn write<F: Family, P: Packet>(
    packet: &mut P,
    key: FlowKey<F>,
    stations: Stations,
    segment: &Segment,
) -> Option<Parsed<F>> {
    let (options, length) = segment.options.bytes();
    let l4 = head(packet, key, stations, tcp::LEN + length)?;
    let end = l4 + tcp::LEN + length;
    let frame = packet.data_mut();
    let mut header = tcp::Header {
        ports: Raw32::new(key.ports),
        sequence: Be32::new(segment.sequence),
        acknowledgment: Be32::new(segment.acknowledgment),
        data_offset: u8::try_from((tcp::LEN + length) / 4).ok()? << 4,
        flags: segment.flags,
        window: Be16::new(segment.window),
        ..tcp::Header::new_zeroed()
    };
    let options = options.get(..length)?;
    let sum = checksum::l4_of_two(key.addresses, ipv4::TCP, header.as_bytes(), options);
    header.checksum = Raw16::new(sum);
    header.write_to_prefix(frame.get_mut(l4..)?).ok()?;
    frame.get_mut(l4 + tcp::LEN..)?.copy_from_slice(options);
    Some(Parsed {
        key,
        l3: u16::try_from(ether::LEN).ok()?,
        l4: u16::try_from(l4).ok()?,
        end: u16::try_from(end).ok()?,
        ttl: TTL,
        signal: segment.flags,
    })
}
