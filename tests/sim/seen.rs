//! What the balancer was seen to do with a burst: a heap from which the model takes what it
//! foretold. Whatever is left at the end was not foretold.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use shunt::dataplane::verdict::Reason;
use shunt::wire::Mac;

use crate::packet::{LINK, Packet};
use crate::pieces::{self, Assembly, Piece, Slice};
use crate::tunnel::{self, Outer};

/// A frame that left by a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) port: usize,
    pub(crate) frame: Vec<u8>,
}

/// A packet that left, understood.
struct View {
    port: usize,
    /// Which frames it left in.
    frames: Vec<usize>,
    outer: Option<Outer>,
    /// The packet, out of its tunnel.
    inner: Packet,
}

pub(crate) struct Seen {
    sent: Vec<Sent>,
    /// Which of them are accounted for.
    taken: Vec<bool>,
    views: Vec<View>,
    punted: Vec<Vec<u8>>,
    drops: BTreeMap<Reason, u64>,
}

impl Seen {
    pub(crate) fn new(sent: Vec<Sent>, punted: Vec<Vec<u8>>, drops: BTreeMap<Reason, u64>) -> Self {
        Self { views: views(&sent), taken: vec![false; sent.len()], sent, punted, drops }
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
        let fits = frame.len() - LINK <= mtu;
        let is_v6 = frame[LINK] >> 4 == 6;
        let mut left = self.left().filter_map(|sent| Piece::read(&sent.frame));
        let ids: Vec<u32> = if fits || !is_v6 {
            vec![0]
        } else {
            left.by_ref().map(|piece| piece.identification()).collect()
        };
        drop(left);
        for id in ids {
            if self.take_all(port, &pieces::cut(frame, mtu, id)) {
                return Ok((!fits && is_v6).then_some(id));
            }
        }
        Err(format!(
            "port {port} must send, {mtu} bytes at a time,\n    {}\n  and it sent{}\n  and dropped {:?}",
            hex(frame),
            self.left_over(),
            self.drops
        ))
    }

    /// Accounts for all of these frames, if all of them left.
    fn take_all(&mut self, port: usize, frames: &[Vec<u8>]) -> bool {
        let mut taken = self.taken.clone();
        for frame in frames {
            let mut sent = self.sent.iter().enumerate();
            let found = sent.find(|(at, s)| !taken[*at] && s.port == port && s.frame == *frame);
            let Some((at, _)) = found else { return false };
            taken[at] = true;
        }
        self.taken = taken;
        true
    }

    /// What is not accounted for.
    fn left(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter().zip(&self.taken).filter(|(_, taken)| !**taken).map(|(sent, _)| sent)
    }

    /// What is left that went to the backends and carries `packet`: by the identification, which is
    /// left alone within a family, and by what nobody changes.
    pub(crate) fn forwarded(
        &self,
        packet: &Packet,
    ) -> impl Iterator<Item = (&Packet, Option<Outer>)> {
        let left = |view: &&View| view.port == 1 && !view.frames.iter().any(|at| self.taken[*at]);
        let same = |view: &&View| {
            let inner = &view.inner;
            // Pieces may have got another number, and so what was cut here.
            let same_family = inner.is_v6() == packet.is_v6();
            let in_pieces = packet.piece.is_some() || view.frames.len() > 1;
            let named = !same_family || inner.id == packet.id || in_pieces;
            let whole = inner.body == packet.body && inner.payload == packet.payload;
            // A piece may have been cut again: its first part stands for it.
            let begins = |piece: Slice| piece.offset;
            let same_part = inner.piece.map(begins) == packet.piece.map(begins);
            named && same_part && (whole || packet.piece.is_some())
        };
        self.views.iter().filter(left).filter(same).map(|view| (&view.inner, view.outer))
    }

    /// The numbers of pieces left that go to that backend.
    pub(crate) fn numbers(&self, backend: Mac) -> Vec<u32> {
        let to_it = self.left().filter(|sent| sent.port == 1 && sent.frame[..6] == backend.0);
        to_it.filter_map(|sent| Some(Piece::read(&sent.frame)?.identification())).collect()
    }

    /// Bytes of the longest packet that left for the backends and is not accounted for yet.
    pub(crate) fn longest(&self) -> usize {
        let lengths = self.left().filter(|sent| sent.port == 1).map(|sent| sent.frame.len() - LINK);
        lengths.max().unwrap_or(0)
    }

    /// Did anything leave for that backend that is not accounted for yet?
    pub(crate) fn is_left_for(&self, backend: Mac) -> bool {
        self.left().any(|sent| sent.port == 1 && sent.frame[..6] == backend.0)
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
        let sent = self.left().next().is_some();
        if !sent && self.punted.is_empty() && drops.is_empty() {
            return Ok(());
        }
        let punted = self.punted.len();
        let left = self.left_over();
        Err(format!("not foretold: drops {drops:?}, {punted} for the kernel, sent{left}"))
    }

    fn left_over(&self) -> String {
        let line = |sent: &Sent| format!("\n    port {} {}", sent.port, hex(&sent.frame));
        let lines: String = self.left().map(line).collect();
        if lines.is_empty() { " nothing more".to_owned() } else { lines }
    }
}

/// Packets that left. Pieces of one leave one behind the other.
fn views(sent: &[Sent]) -> Vec<View> {
    let mut all = vec![];
    let mut waiting = [vec![], vec![]];
    let mut assemblies = [Assembly::default(), Assembly::default()];
    for (at, Sent { port, frame }) in sent.iter().enumerate() {
        all.extend(view(*port, vec![at], frame));
        if Piece::read(frame).is_none() {
            continue;
        }
        waiting[*port].push(at);
        if let Some(whole) = assemblies[*port].take(frame) {
            all.extend(view(*port, std::mem::take(&mut waiting[*port]), &whole));
        }
    }
    all
}

fn view(port: usize, frames: Vec<usize>, frame: &[u8]) -> Option<View> {
    let outside = if Piece::read(frame).is_some() { None } else { tunnel::unwrap(frame) };
    let (outer, inner) = match outside {
        Some((outer, inner)) => (Some(outer), inner),
        None => (None, frame.to_vec()),
    };
    let inner = Packet::read(&inner).ok().or_else(|| Packet::read_piece(&inner))?;
    Some(View { port, frames, outer, inner })
}

/// The headers of a frame, for people.
fn hex(frame: &[u8]) -> String {
    let mut shown = String::new();
    for byte in frame.iter().take(96) {
        let _ = write!(shown, "{byte:02x}");
    }
    format!("{shown} ({} bytes)", frame.len())
}
