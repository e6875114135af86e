//! Frames as a pcapng file (draft-ietf-opsawg-pcapng): what `tcpdump -r` and Wireshark read.
//!
//! ```text
//! │ section │ interface 0 │ interface 1 │ … │ packet │ packet │ … │ statistics │
//!             wan-in        wan-out                                how many were missed
//! ```
//!
//! Each device is two interfaces, so that what was received and what was sent can be told apart by name; packets
//! carry the direction as a flag, too. All numbers are little-endian, every block is padded to four bytes
//! and says its length at both ends, so whoever reads on the way can count ([`Reader`]).

/// Kinds of blocks.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

/// Options of blocks; numbers mean different things in different blocks.
const USER_APPLICATION: u16 = 4;
const NAME: u16 = 2;
const DESCRIPTION: u16 = 3;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
const MISSED: u16 = 5;

/// Says which end of a number comes first.
const MAGIC: u32 = 0x1a2b_3c4d;
/// Ethernet (`LINKTYPE_ETHERNET`).
const ETHERNET: u16 = 1;
/// Timestamps count nanoseconds: ten to the power of minus nine.
const NANOSECONDS: u8 = 9;

/// Received or sent: the direction flags of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// By the card.
    In = 1,
    /// By us.
    Out = 2,
}

/// A frame, or its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Place among the interfaces.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// Received or sent.
    pub direction: Direction,
    /// Its first bytes.
    pub bytes: &'a [u8],
    /// Bytes it has.
    pub length: u32,
}

/// Writes blocks.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// What was written since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// Bytes written and not taken.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is there nothing to take?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The beginning of a file.
    pub fn section(&mut self, program: &str) {
        self.block(SECTION, |out| {
            out.extend(MAGIC.to_le_bytes());
            out.extend([1, 0, 0, 0]);
            // How long the section is nobody knows yet.
            out.extend(u64::MAX.to_le_bytes());
            option(out, USER_APPLICATION, program.as_bytes());
            option(out, 0, &[]);
        });
    }

    /// The next interface.
    pub fn interface(&mut self, name: &str, description: &str, snap_len: u32) {
        self.block(INTERFACE, |out| {
            out.extend(ETHERNET.to_le_bytes());
            out.extend([0, 0]);
            out.extend(snap_len.to_le_bytes());
            option(out, NAME, name.as_bytes());
            option(out, DESCRIPTION, description.as_bytes());
            option(out, RESOLUTION, &[NANOSECONDS]);
            option(out, 0, &[]);
        });
    }

    /// A packet.
    pub fn frame(&mut self, frame: Frame<'_>) {
        let kept = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
        self.block(PACKET, |out| {
            out.extend(frame.interface.to_le_bytes());
            time(out, frame.time_ns);
            out.extend(kept.to_le_bytes());
            out.extend(frame.length.to_le_bytes());
            out.extend(frame.bytes);
            pad(out, frame.bytes.len());
            option(out, FLAGS, &(frame.direction as u32).to_le_bytes());
            option(out, 0, &[]);
        });
    }

    /// How many frames are missing, at the end.
    pub fn missed(&mut self, interface: u32, time_ns: u64, missed: u64) {
        self.block(STATISTICS, |out| {
            out.extend(interface.to_le_bytes());
            time(out, time_ns);
            option(out, MISSED, &missed.to_le_bytes());
            option(out, 0, &[]);
        });
    }

    /// A block around what `body` writes, with its length before and behind.
    fn block(&mut self, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend(kind.to_le_bytes());
        self.0.extend([0; 4]);
        body(&mut self.0);
        let length = u32::try_from(self.0.len() - start + 4).unwrap_or(u32::MAX).to_le_bytes();
        self.0.extend(length);
        if let Some(place) = self.0.get_mut(start + 4..start + 8) {
            place.copy_from_slice(&length);
        }
    }
}

fn time(out: &mut Vec<u8>, ns: u64) {
    let [a, b, c, d, high @ ..] = ns.to_le_bytes();
    out.extend(high);
    out.extend([a, b, c, d]);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.extend(code.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(value.iter().take(length.into()));
    pad(out, length.into());
}

/// To a multiple of four, behind so many bytes.
fn pad(out: &mut Vec<u8>, length: usize) {
    out.extend(std::iter::repeat_n(0, length.next_multiple_of(4) - length));
}

/// Counts what passes, as it comes in.
#[derive(Debug, Default)]
pub struct Reader {
    waiting: Vec<u8>,
    /// Packets so far.
    pub frames: u64,
    /// Frames that are missing, once that was said.
    pub missed: Option<u64>,
}

impl Reader {
    /// More of the file. Blocks that are not whole yet are kept.
    pub fn read(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
        let mut rest = self.waiting.as_slice();
        while let Some((block, behind)) = split(rest) {
            rest = behind;
            match word(block, 0) {
                Some(PACKET) => self.frames += 1,
                // Behind interface and time: the only option there is, and its length.
                Some(STATISTICS) => {
                    let number = block.get(24..).and_then(|it| it.first_chunk());
                    self.missed = number.map(|it| u64::from_le_bytes(*it));
                }
                _ => {}
            }
        }
        let done = self.waiting.len() - rest.len();
        self.waiting.drain(..done);
    }

    /// Did the file end as it should?
    pub fn is_whole(&self) -> bool {
        self.waiting.is_empty() && self.missed.is_some()
    }
}

/// The first block, and what comes behind it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // No block of ours is shorter.
    let length = word(bytes, 4)?.max(12) as usize;
    (length <= bytes.len()).then(|| bytes.split_at(length))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|it| u32::from_le_bytes(*it))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn file(missed: u64) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.section("shunt");
        writer.interface("wan-in", "received by port wan", 2048);
        writer.interface("wan-out", "sent by port wan", 2048);
        for (number, direction) in [(0_u32, Direction::In), (1, Direction::Out)] {
            let mut arp = [0_u8; 43];
            arp[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
            let time_ns = 1_700_000_000_000_000_000 + u64::from(number);
            writer.frame(Frame { interface: number, time_ns, direction, bytes: &arp, length: 60 });
        }
        writer.missed(0, 1_700_000_000_000_000_000, missed);
        writer.take()
    }

    #[test]
    fn tcpdump_reads_what_is_written_to_the_nanosecond() {
        let mut tcpdump = Command::new("tcpdump")
            .args(["-r", "-", "-tt", "--nano", "-n"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump is needed: `make deps` installs it");
        tcpdump.stdin.take().unwrap().write_all(&file(0)).unwrap();
        let output = tcpdump.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        for (number, line) in lines.iter().enumerate() {
            let time = format!("1700000000.00000000{number} ARP, Request");
            assert!(line.starts_with(&time) && line.ends_with("length 46"), "{line}");
        }
    }

    #[test]
    fn what_passes_is_counted_however_it_is_cut() {
        let file = file(7);
        for piece in [1, 3, 4, 29, 64, file.len()] {
            let mut reader = Reader::default();
            file.chunks(piece).for_each(|bytes| reader.read(bytes));
            assert_eq!((reader.frames, reader.missed), (2, Some(7)), "{piece} bytes at once");
            assert!(reader.is_whole());
        }
        let mut cut = Reader::default();
        cut.read(&file[..file.len() - 1]);
        assert!(!cut.is_whole());
    }
}
