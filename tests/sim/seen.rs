//! What the balancer was seen to do with a burst: a heap from which the model takes what it
//! foretold. Whatever is left at the end was not foretold.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use shunt::dataplane::verdict::Reason;

use crate::packet::Packet;
use crate::pieces::{self, Assembly, Piece};
use crate::tunnel::{self, Outer};

/// A frame that left by a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) port: usize,
    pub(crate) frame: Vec<u8>,
}

/// A packet that left, whole or in pieces, understood.
struct Read {
    port: usize,
    /// As it would be in one piece.
    frame: Vec<u8>,
    /// As it left.
    pieces: Vec<Vec<u8>>,
    taken: bool,
    outer: Option<Outer>,
    /// The packet, out of its tunnel.
    inner: Result<Packet, String>,
}

pub(crate) struct Seen {
    sent: Vec<Sent>,
    read: Vec<Read>,
    punted: Vec<Vec<u8>>,
    drops: BTreeMap<Reason, u64>,
}

impl Seen {
    pub(crate) fn new(sent: Vec<Sent>, punted: Vec<Vec<u8>>, drops: BTreeMap<Reason, u64>) -> Self {
        Self { read: read_all(&sent), sent, punted, drops }
    }

    /// Everything that left.
    pub(crate) fn sent(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter()
    }

    /// Everything that left, to be changed by a test that lies.
    pub(crate) fn into_parts(self) -> (Vec<Sent>, Vec<Vec<u8>>, BTreeMap<Reason, u64>) {
        (self.sent, self.punted, self.drops)
    }

    /// Exactly this frame left by this port, and it is accounted for.
    pub(crate) fn take(&mut self, port: usize, frame: &[u8]) -> Result<(), String> {
        self.take_cut(port, frame, usize::MAX).map(|_| ())
    }

    /// As [`Seen::take`], but it left in pieces if it is longer than `mtu`. Returns the pieces'
    /// identification.
    pub(crate) fn take_cut(
        &mut self,
        port: usize,
        frame: &[u8],
        mtu: usize,
    ) -> Result<Option<u32>, String> {
        let found = self
            .read
            .iter_mut()
            .find(|read| !read.taken && read.port == port && read.frame == frame);
        match found {
            Some(read) => {
                read.taken = true;
                let piece = read.pieces.first().and_then(|piece| Piece::read(piece));
                let id = piece.map(|piece| piece.identification());
                if read.pieces == pieces::cut(frame, mtu, id.unwrap_or(0)) {
                    return Ok(id);
                }
                let lengths: Vec<_> = read.pieces.iter().map(Vec::len).collect();
                Err(format!("{} is wrongly cut, to {lengths:?} bytes", hex(frame)))
            }
            None => Err(format!(
                "port {port} must send\n    {}\n  and it sent{}\n  and dropped {:?}",
                hex(frame),
                self.left_over(),
                self.drops
            )),
        }
    }

    /// What is left that went to the backends and carries `packet`: by the identification, which is
    /// left alone within a family, and by what nobody changes.
    pub(crate) fn forwarded(
        &self,
        packet: &Packet,
    ) -> impl Iterator<Item = (&Packet, Option<Outer>)> {
        let waiting = self.read.iter().filter(|read| !read.taken && read.port == 1);
        let whole = waiting.filter_map(|read| Some((read.inner.as_ref().ok()?, read.outer)));
        whole.filter(|(inner, _)| {
            let named = inner.is_v6() != packet.is_v6() || inner.id == packet.id;
            named && inner.body == packet.body && inner.payload == packet.payload
        })
    }

    /// One drop of this reason is accounted for.
    pub(crate) fn drop(&mut self, reason: Reason) -> Result<(), String> {
        if self.may_drop(reason) {
            *self.drops.entry(reason).or_default() -= 1;
            return Ok(());
        }
        Err(format!(
            "must be dropped as {reason:?}; dropped {:?}, sent{}",
            self.drops,
            self.left_over()
        ))
    }

    /// Was something dropped for this reason that is not accounted for yet?
    pub(crate) fn may_drop(&self, reason: Reason) -> bool {
        self.drops.get(&reason).is_some_and(|count| *count > 0)
    }

    /// The kernel got exactly this frame.
    pub(crate) fn punt(&mut self, frame: &[u8]) -> Result<(), String> {
        let at = self.punted.iter().position(|punted| punted == frame);
        let at = at.ok_or_else(|| format!("the kernel must get {}", hex(frame)))?;
        self.punted.remove(at);
        Ok(())
    }

    /// Did the kernel get this frame?
    pub(crate) fn is_punted(&self, frame: &[u8]) -> bool {
        self.punted.iter().any(|punted| punted == frame)
    }

    /// Nothing is left.
    pub(crate) fn is_explained(&self) -> Result<(), String> {
        let drops: Vec<_> = self.drops.iter().filter(|(_, count)| **count > 0).collect();
        let sent = self.read.iter().any(|read| !read.taken);
        if !sent && self.punted.is_empty() && drops.is_empty() {
            return Ok(());
        }
        let punted = self.punted.len();
        let left = self.left_over();
        Err(format!("not foretold: drops {drops:?}, {punted} for the kernel, sent{left}"))
    }

    fn left_over(&self) -> String {
        let left = self.read.iter().filter(|read| !read.taken);
        let line = |read: &Read| format!("\n    port {} {}", read.port, hex(&read.frame));
        let lines: String = left.map(line).collect();
        if lines.is_empty() { " nothing more".to_owned() } else { lines }
    }
}

/// Packets that left. Pieces of one leave one behind the other.
fn read_all(sent: &[Sent]) -> Vec<Read> {
    let mut all = vec![];
    let mut waiting = [vec![], vec![]];
    let mut assemblies = [Assembly::default(), Assembly::default()];
    for Sent { port, frame } in sent {
        let waiting: &mut Vec<Vec<u8>> = &mut waiting[*port];
        if Piece::read(frame).is_none() {
            all.push(read(*port, frame.clone(), vec![frame.clone()]));
            continue;
        }
        waiting.push(frame.clone());
        if let Some(whole) = assemblies[*port].take(frame) {
            all.push(read(*port, whole, std::mem::take(waiting)));
        }
    }
    for (port, pieces) in waiting.into_iter().enumerate() {
        all.extend(pieces.into_iter().map(|piece| read(port, piece.clone(), vec![piece])));
    }
    all
}

fn read(port: usize, frame: Vec<u8>, pieces: Vec<Vec<u8>>) -> Read {
    let (outer, inner) = match tunnel::unwrap(&frame) {
        Some((outer, frame)) => (Some(outer), Packet::read(&frame)),
        None => (None, Packet::read(&frame)),
    };
    Read { port, frame, pieces, taken: false, outer, inner }
}

/// The headers of a frame, for people.
fn hex(frame: &[u8]) -> String {
    let mut shown = String::new();
    for byte in frame.iter().take(96) {
        let _ = write!(shown, "{byte:02x}");
    }
    format!("{shown} ({} bytes)", frame.len())
}
