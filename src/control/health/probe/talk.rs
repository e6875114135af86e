//! `tcp` and `udp`: something may be said, something may be expected in the answer.
//!
//! | kind | nothing expected | something expected |
//! |---|---|---|
//! | `tcp` | the connection is made | it is in the first 64 KiB that come |
//! | `udp` | no ICMP error before the timeout | it is in a datagram |
//!
//! For UDP silence is good and ends with the timeout, so such a check takes all of it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::check::Talk;
use super::Failure;
use super::socket::{self, Road};

/// Most that is read of an answer by TCP.
const ANSWER_MAX: usize = 64 * 1024;
const WRONG: Failure = Failure::Unexpected("the answer does not hold what is expected");
/// For silence to be told from an answer that is late, it ends so much before the timeout.
const HEADSTART: Duration = Duration::from_millis(5);

pub(super) async fn over_tcp(road: &Road<'_>, talk: &Talk) -> Result<(), Failure> {
    let mut stream = socket::connect(road).await?;
    stream.write_all(talk.said()).await?;
    let Some(expected) = &talk.expect else { return Ok(()) };
    let mut answer = Vec::new();
    while !contains(&answer, expected) || answer.is_empty() {
        if answer.len() >= ANSWER_MAX {
            return Err(WRONG);
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(if answer.is_empty() { Failure::Closed } else { WRONG });
        }
    }
    Ok(())
}

pub(super) async fn over_udp(
    road: &Road<'_>,
    talk: &Talk,
    patience: Duration,
) -> Result<(), Failure> {
    // From here on, as the caller's patience: a thread that is late must not make of silence no answer in time.
    let silence = tokio::time::sleep(patience.saturating_sub(HEADSTART));
    let socket = socket::datagrams(road).await?;
    socket.send(talk.said()).await?;
    let Some(expected) = &talk.expect else {
        return tokio::select! {
            answered = socket::hear(&socket, |_| Some(())) => Ok(answered?),
            () = silence => Ok(()),
        };
    };
    // Whatever comes is the answer: who is asked once says one thing.
    let holds = socket::hear(&socket, |answer| Some(contains(answer, expected))).await?;
    if holds { Ok(()) } else { Err(WRONG) }
}

/// Is `part` somewhere in `whole`?
pub(super) fn contains(whole: &[u8], part: &[u8]) -> bool {
    part.is_empty() || whole.windows(part.len()).any(|window| window == part)
}
