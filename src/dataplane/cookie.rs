//! SYN cookies: what the balancer would have to remember of a SYN, in the number it answers with.
//!
//! ```text
//! client ── SYN, number s ─────────► balancer        nothing is kept
//!        ◄─ SYN+ACK, number c ──────                 c is the cookie
//!        ── ACK, s + 1, c + 1 ─────►                 is c what we would have said? then connect
//!
//! cookie   31 30  29 … 27   26 … 13                 12 … 0
//!          time │ MSS    │ keyed hash, s included │ keyed hash of the rest
//! ```
//!
//! - **Time** counts periods of 65.5 s. A cookie is taken in its own and the next: 65 to 131 s.
//! - **MSS** is the place in a table of eight, the largest that is no more than the client's.
//! - **Two hashes** (SipHash-1-3, the second with `s` as one word more) because segments overtake each
//!   other. One that comes before the client's first carries our number but not `s`; the low half proves
//!   that it is the client's, so it is dropped in silence where a stranger's is answered with a RST. Whoever guesses names a
//!   period and an MSS and has to hit the 27 bits of both hashes: one try in 2²⁷ makes a connection,
//!   one in 2²⁶ while two secrets are taken.
//! - **The secret** is renewed every hour; the one before is taken as long as a cookie of it may live.
//!
//! Window scale and SACK do not fit. They go in the low bits of our timestamp, which the client
//! sends back: without timestamps a connection has neither (RFC 4987 section 3.6).
//!
//! ```text
//! our timestamp   31 … 5          4       3 … 0
//!                 milliseconds    SACK    the client's window scale, 15 for none
//! ```

use zerocopy::IntoBytes;

use super::conn::key::FlowKey;
use super::family::Family;
use super::siphash::Sip;
use crate::wire::tcp::options;

/// A period is two to this many milliseconds.
const PERIOD_BITS: u32 = 16;
/// How long a cookie may be taken, at most.
pub const LIFE_MS: u32 = 2 << PERIOD_BITS;
/// Largest scale there is (RFC 7323 section 2.3).
pub const SCALE_MAX: u8 = 14;
/// Stands for none, in four bits.
pub const SCALE_NONE: u8 = 15;
/// By how many bits windows are shifted that we tell a client of: 32 MiB at most, 512 bytes the
/// step. Backends' own windows are turned into these.
pub const OUR_SCALE: u8 = 9;

/// Segment sizes by number, ascending: what Ethernet, DSL, tunnels and jumbo frames make.
const MSS_V4: [u16; 8] = [536, 1024, 1220, 1300, 1400, 1440, 1460, 8960];
const MSS_V6: [u16; 8] = [1220, 1280, 1340, 1380, 1400, 1420, 1440, 8940];

/// What cookies are keyed with. All zero is the key of tests.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Secret(pub [u64; 2]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A fresh one from the system.
    pub fn random() -> Result<Self, getrandom::Error> {
        Ok(Self([getrandom::u64()?, getrandom::u64()?]))
    }
}

macro_rules! events {
    ($( $(#[doc = $doc:literal])+ $variant:ident => $label:literal ),+ $(,)?) => {
        /// What happens with cookies: each service counts them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Event {
            $( $(#[doc = $doc])+ $variant ),+
        }

        impl Event {
            /// All of them.
            pub const ALL: &'static [Event] = &[$(Event::$variant),+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The metric label.
            pub const fn label(self) -> &'static str {
                match self { $(Event::$variant => $label),+ }
            }
        }
    };
}

events! {
    /// A SYN was answered.
    Sent => "sent",
    /// A cookie came back and made a connection.
    Accepted => "accepted",
    /// An ACK carried none of ours.
    Bad => "bad",
    /// One came back too late.
    Old => "old",
    /// A segment overtook the one that was to bring the cookie.
    Early => "early",
    /// One came back without data, and the service waits for data.
    Waited => "waited",
    /// A segment could not wait for its backend: too many wait for that one already.
    Crowded => "crowded",
    /// There was no room for a connection's numbers.
    Full => "full",
    /// The cookie was right, but the connection could not be made: no backend, port or room.
    Refused => "refused",
    /// The backend has answered.
    Opened => "opened",
    /// The backend refused, with RST.
    BackendRefused => "backend_refused",
    /// The backend did not answer.
    BackendSilent => "backend_silent",
    /// The backend does not do timestamps, though the client was told so.
    BackendPlain => "backend_plain",
}

/// What an end offers in the options of its SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offer {
    /// Largest segment it takes.
    pub(super) mss: Option<u16>,
    /// By how many bits its windows are shifted.
    pub(super) scale: Option<u8>,
    /// Does it understand SACK?
    pub(super) sack: bool,
    /// Its timestamp, and the one of ours it echoes.
    pub(super) stamps: Option<(u32, u32)>,
}

impl Offer {
    /// Reads a segment's option area.
    pub(super) fn read(area: &[u8]) -> Self {
        let mut offer = Self::default();
        for option in options::walk(area) {
            match *option.bytes {
                [options::MSS, 4, high, low] => {
                    offer.mss = Some(u16::from_be_bytes([high, low]));
                }
                [options::WINDOW_SCALE, 3, scale] => offer.scale = Some(scale.min(SCALE_MAX)),
                [options::SACK_PERMITTED, 2] => offer.sack = true,
                [options::TIMESTAMPS, 10, ref numbers @ ..] => {
                    if let ([value, echo], []) = numbers.as_chunks::<4>() {
                        let number = |bytes: &[u8; 4]| u32::from_be_bytes(*bytes);
                        offer.stamps = Some((number(value), number(echo)));
                    }
                }
                _ => {}
            }
        }
        offer
    }

    /// Our timestamp for a client that offers this.
    pub(super) fn stamp(&self, now_ms: u32) -> u32 {
        let scale = self.scale.unwrap_or(SCALE_NONE);
        now_ms & !31 | u32::from(self.sack) << 4 | u32::from(scale)
    }

    /// What a client had offered whose timestamps came back like this.
    pub(super) fn from_stamps(stamps: Option<(u32, u32)>, mss: u16) -> Self {
        let bits = stamps.map_or(15, |(_, echo)| echo & 31);
        #[expect(clippy::cast_possible_truncation, reason = "four bits")]
        let scale = Some(bits as u8 & 15).filter(|scale| *scale <= SCALE_MAX);
        Self { mss: Some(mss), scale, sack: bits & 16 != 0, stamps }
    }
}

/// No timestamp of ours up to now is newer.
pub(super) fn newest_stamp(now_ms: u32) -> u32 {
    now_ms | 31
}

fn table<F: Family>() -> &'static [u16; 8] {
    if F::IS_V6 { &MSS_V6 } else { &MSS_V4 }
}

/// The place of a client's MSS; without, it takes what every way carries (RFC 9293 section 3.7.1).
pub(super) fn mss_index<F: Family>(mss: Option<u16>) -> u32 {
    let table = table::<F>();
    let mss = mss.unwrap_or(if F::IS_V6 { 1220 } else { 536 });
    let place = table.iter().rposition(|known| *known <= mss).unwrap_or(0);
    u32::try_from(place).unwrap_or(0)
}

/// What became of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is ours; the client takes segments of this size.
    Right(u16),
    /// It was ours.
    Old,
    /// It is ours, but the segment is not the client's first.
    Early,
    /// It is none of ours.
    Wrong,
}

/// The answer to the SYN of a client with this key and number.
pub(super) fn make<F: Family>(
    secret: Secret,
    key: FlowKey<F>,
    start: u32,
    mss_index: u32,
    now_ms: u32,
) -> u32 {
    bake(secret, key, start, mss_index & 7, now_ms >> PERIOD_BITS)
}

/// Is `cookie` the answer to a SYN with this key and number?
pub(super) fn check<F: Family>(
    secrets: [Secret; 2],
    key: FlowKey<F>,
    start: u32,
    cookie: u32,
    now_ms: u32,
) -> Verdict {
    let mut verdict = Verdict::Wrong;
    let [now, before] = secrets;
    for secret in std::iter::once(now).chain(Some(before).filter(|before| *before != now)) {
        match check_one(secret, key, start, cookie, now_ms) {
            Verdict::Wrong => {}
            Verdict::Early => verdict = Verdict::Early,
            known => return known,
        }
    }
    verdict
}

fn check_one<F: Family>(
    secret: Secret,
    key: FlowKey<F>,
    start: u32,
    cookie: u32,
    now_ms: u32,
) -> Verdict {
    let (now, mss) = (now_ms >> PERIOD_BITS, cookie >> 27 & 7);
    let age = now.wrapping_sub(cookie >> 30) & 3;
    // A worker whose clock is a little ahead may be in the next period already.
    let made = if age == 3 { now.wrapping_add(1) } else { now.wrapping_sub(age) };
    let right = bake(secret, key, start, mss, made);
    match cookie ^ right {
        0 if age == 2 => Verdict::Old,
        0 => Verdict::Right(table::<F>().get(mss as usize).copied().unwrap_or(536)),
        differ if differ.trailing_zeros() >= REST_BITS && age != 2 => Verdict::Early,
        _ => Verdict::Wrong,
    }
}

/// Bits of the hash that does not cover the client's number.
const REST_BITS: u32 = 13;
/// Bits of both.
const HASH_BITS: u32 = 27;

fn bake<F: Family>(secret: Secret, key: FlowKey<F>, start: u32, mss: u32, period: u32) -> u32 {
    let period = period & (u32::MAX >> PERIOD_BITS);
    let (addresses, _) = key.addresses.as_bytes().as_chunks::<8>();
    let words = addresses.iter().map(|bytes| u64::from_ne_bytes(*bytes));
    let others = u64::from(key.ports) | u64::from(period) << 32 | u64::from(mss) << 56;
    let rest = words.fold(Sip::new(secret.0), Sip::and).and(others);
    // The two end side by side: neither waits for the other.
    let (rest, whole) = (rest.finish(), rest.and(start.into()).finish());
    #[expect(clippy::cast_possible_truncation, reason = "as many bits as fit")]
    let (rest, whole) = (rest as u32, whole as u32);
    let low = (1 << REST_BITS) - 1;
    let high = ((1 << HASH_BITS) - 1) & !low;
    period << 30 | mss << HASH_BITS | whole & high | rest & low
}

#[cfg(test)]
mod tests;
