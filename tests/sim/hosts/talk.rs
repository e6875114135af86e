//! What a connection is about. Both ends know it from the eight bytes the client sends first, so
//! either can tell whether what it got is what was sent, whoever the balancer made it talk to.

use crate::rng::Rng;

/// Bytes that name a talk, at the front of a request.
pub(crate) const NAME: usize = 8;

/// Who ends it, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client closes when it has everything.
    Client,
    /// The client closes its half right after the request.
    HalfClose,
    /// The backend closes right after the answer.
    Backend,
    /// The client resets after so many bytes of the answer.
    ClientResets(usize),
    /// The backend resets after so many bytes of the request.
    BackendResets(usize),
    /// The client goes away without a word.
    Silence,
    /// It does so after so many bytes of the answer, in the middle of everything.
    ClientForgets(usize),
}

/// A stream or datagram without the PROXY header in front of it, if there is one; `None` while
/// that is not whole.
pub(crate) fn without_header(received: &[u8]) -> Option<&[u8]> {
    if received.starts_with(b"PROXY ") {
        let end = received.windows(2).position(|two| two == b"\r\n")?;
        return Some(&received[end + 2..]);
    }
    if received.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
        let length = u16::from_be_bytes(received.get(14..16)?.try_into().ok()?);
        return received.get(16 + usize::from(length)..);
    }
    Some(received)
}

/// A request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) request: Vec<u8>,
    pub(crate) answer: Vec<u8>,
    pub(crate) ending: Ending,
    /// How long the client waits after connecting, and before it closes.
    pub(crate) pauses_ms: (u64, u64),
    /// Most bytes of payload in a packet, as this client's link has it.
    pub(crate) mss: usize,
}

impl Talk {
    /// The talk of that name.
    pub(crate) fn of(name: u64) -> Self {
        let mut rng = Rng::new(name);
        let length = |rng: &mut Rng| rng.pick(&[0, 1, 100, 1_460, 5_000]) + rng.index(700);
        let (asked, answered) = (length(&mut rng), length(&mut rng));
        let ending = match rng.below(12) {
            0..=3 => Ending::Client,
            4..=5 => Ending::HalfClose,
            6..=7 => Ending::Backend,
            8 if rng.chance(500) => Ending::ClientResets(rng.index(answered + 1)),
            8 => Ending::BackendResets(NAME + rng.index(asked + 1)),
            9 => Ending::ClientForgets(rng.index(answered + 1)),
            10 => Ending::ClientResets(rng.index(answered + 1)),
            _ => Ending::Silence,
        };
        let pause = |rng: &mut Rng| rng.pick(&[0, 0, 0, 0, 0, 40, 4_000, 40_000, 1_000_000]);
        let request = [name.to_be_bytes().to_vec(), rng.bytes(asked)].concat();
        let pauses_ms = (pause(&mut rng), pause(&mut rng));
        let mss = rng.pick(&[500, 1_360, 1_460]);
        Self { request, answer: rng.bytes(answered), ending, pauses_ms, mss }
    }

    /// The talk a request belongs to, once enough of it is there.
    pub(crate) fn of_request(received: &[u8]) -> Option<Self> {
        let name = received.first_chunk::<NAME>()?;
        Some(Self::of(u64::from_be_bytes(*name)))
    }

    /// The question of a talk over UDP: shorter than a link, mostly.
    pub(crate) fn question(name: u64) -> Vec<u8> {
        let mut rng = Rng::new(name).fork(1);
        let more = rng.pick(&[0, 30, 400, 1_450]) + rng.index(40);
        [name.to_be_bytes().to_vec(), rng.bytes(more)].concat()
    }

    /// The answer to a question; it starts with the same name.
    pub(crate) fn reply(question: &[u8]) -> Option<Vec<u8>> {
        let name = question.first_chunk::<NAME>()?;
        let mut rng = Rng::new(u64::from_be_bytes(*name)).fork(2);
        let more = rng.pick(&[1, 300, 1_420]) + rng.index(40);
        Some([name.to_vec(), rng.bytes(more)].concat())
    }
}
