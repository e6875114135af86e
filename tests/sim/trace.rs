//! The last events of a run, for whoever reads why it failed.

use std::collections::VecDeque;
use std::fmt;

use crate::packet::{Body, Packet};

/// Events kept.
const KEPT: usize = 60;

#[derive(Default)]
pub(crate) struct Trace(VecDeque<(u64, Entry)>);

/// Packets are put into words only when somebody reads them.
enum Entry {
    Note(String),
    Packet(&'static str, Box<Packet>),
}

impl Trace {
    pub(crate) fn note(&mut self, now_ms: u64, note: String) {
        self.keep(now_ms, Entry::Note(note));
    }

    pub(crate) fn packet(&mut self, now_ms: u64, what: &'static str, packet: &Packet) {
        let packet = packet.clone();
        self.keep(now_ms, Entry::Packet(what, Box::new(packet)));
    }

    fn keep(&mut self, now_ms: u64, entry: Entry) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now_ms, entry));
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the last events, in milliseconds:")?;
        for (now_ms, entry) in &self.0 {
            match entry {
                Entry::Note(note) => writeln!(f, "{now_ms:>9} {note}")?,
                Entry::Packet(what, packet) => {
                    writeln!(f, "{now_ms:>9} {what:<12} {}", Words(packet))?;
                }
            }
        }
        Ok(())
    }
}

/// A packet in a line.
pub(crate) struct Words<'a>(pub(crate) &'a Packet);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packet = self.0;
        write!(f, "{} > {} ", packet.from, packet.to)?;
        match &packet.body {
            Body::Tcp { sequence, ack, flags, .. } => {
                for (bit, name) in ["F", "S", "R", "P", "A"].iter().enumerate() {
                    f.write_str(if flags >> bit & 1 == 1 { name } else { "." })?;
                }
                write!(f, " seq {sequence} ack {ack}")?;
            }
            Body::Udp { .. } => f.write_str("udp")?,
            Body::Sctp { tag } => {
                write!(f, "sctp chunk {} tag {tag:x}", packet.payload.first().unwrap_or(&0))?;
            }
            Body::Icmp { kind, code, rest } => write!(f, "icmp {kind}/{code} {rest}")?,
        }
        let (length, id, ttl) = (packet.payload.len(), packet.id, packet.ttl);
        if let Some(piece) = packet.piece {
            write!(f, ", piece {} to {}", piece.offset, piece.offset + piece.length)?;
        }
        write!(f, ", {length} bytes, id {id}, ttl {ttl}, df {}", packet.df)
    }
}
