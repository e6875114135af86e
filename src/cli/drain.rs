//! `shunt drain`, `undrain` and `weight`: one backend in the operator's hand.
//!
//! ```text
//! $ shunt drain web 10.44.0.11 --deadline 10m --wait
//! web 10.44.0.11:8080: drained by hand, 31 connections left, ended in 10m 0s
//! web 10.44.0.11:8080: drained by hand, 12 connections left, ended in 8m 41s
//! web 10.44.0.11:8080: drained by hand, 0 connections left
//! ```

use std::io::Write;
use std::time::Duration;

use super::tables::duration;
use super::{RequestError, Socket, print};
use crate::control::admin::view::{ByHand, Drift, Hand, Handed};
use crate::control::words::count;

/// How often `--wait` looks.
const LOOKS: Duration = Duration::from_millis(500);

/// A backend, as `shunt services` names it.
#[derive(Clone, Debug, clap::Args)]
pub struct Backend {
    /// The service's name
    service: String,
    /// Its backend
    #[arg(value_name = "ADDRESS[:PORT]")]
    backend: String,
}

/// `shunt drain`
#[derive(Clone, Debug, clap::Args)]
pub struct Drain {
    #[command(flatten)]
    backend: Backend,
    /// End the connections that are left after so long, like 90s, 10m or 2h: both ends are told
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    deadline: Option<u64>,
    /// Stay, and say how many are left until none is: exit code 1 if somebody takes the drain back
    #[arg(long)]
    wait: bool,
}

/// `shunt weight`
#[derive(Clone, Debug, clap::Args)]
pub struct Weight {
    #[command(flatten)]
    backend: Backend,
    /// In the place of the file's, until `shunt undrain`
    #[arg(value_parser = clap::value_parser!(u32).range(..=65_535))]
    weight: u32,
}

/// `90`, `90s`, `10m` or `2h` as seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    let unit = match text.get(digits.len()..) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        _ => 0,
    };
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    seconds
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| "expected a time like 90s, 10m or 2h".into())
}

impl Drain {
    /// Asks, and waits if that is wanted. The exit code.
    pub(super) fn run(
        &self,
        socket: &Socket,
        json: bool,
        out: &mut impl Write,
    ) -> Result<u8, RequestError> {
        let Backend { service, backend } = self.backend.clone();
        let hand = Hand::Drain { service, backend, deadline_s: self.deadline };
        let mut last = carry_out(&hand, socket, json, out)?;
        while self.wait && last.connections > 0 {
            std::thread::sleep(LOOKS);
            let now = later(socket.get("/drift")?, &last);
            let goes_on = matches!(now.by_hand, Some(ByHand { weight: 0, .. }));
            if now.connections != last.connections || !goes_on {
                print(out, json, &now, told)?;
            }
            if !goes_on {
                return Ok(1);
            }
            last = now;
        }
        Ok(0)
    }
}

/// The same backend now.
fn later(drift: Drift, before: &Handed) -> Handed {
    let is_it = |it: &Handed| it.service == before.service && it.backend == before.backend;
    let found = drift.by_hand.into_iter().find(is_it);
    found.unwrap_or_else(|| Handed { by_hand: None, ..before.clone() })
}

impl Backend {
    /// What `shunt undrain` asks for.
    pub(super) fn undrain(&self) -> Hand {
        let Self { service, backend } = self.clone();
        Hand::Undrain { service, backend }
    }
}

impl Weight {
    /// What it asks for.
    pub(super) fn hand(&self) -> Hand {
        let Backend { service, backend } = self.backend.clone();
        Hand::Weight { service, backend, weight: self.weight }
    }
}

/// Asks, and prints how the backend is then.
pub(super) fn carry_out(
    hand: &Hand,
    socket: &Socket,
    json: bool,
    out: &mut impl Write,
) -> Result<Handed, RequestError> {
    let handed = socket.hand(hand)?;
    print(out, json, &handed, told)?;
    Ok(handed)
}

/// A backend on one line.
pub(super) fn told(Handed { service, backend, by_hand, connections }: &Handed) -> String {
    let connections = count(usize::try_from(*connections).unwrap_or(usize::MAX), "connection");
    let state = match by_hand {
        None => format!("the file's weight again, {connections}"),
        Some(ByHand { weight: 0, .. }) => format!("drained by hand, {connections} left"),
        Some(ByHand { weight, .. }) => format!("weight {weight} by hand, {connections}"),
    };
    let end = by_hand.and_then(|it| it.ends_in_s);
    let end = end.map_or_else(String::new, |left| format!(", ended in {}", duration(left)));
    format!("{service} {backend}: {state}{end}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        for (text, expected) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("10m", Some(600)),
            ("2h", Some(7200)),
            ("0", None),
            ("m", None),
            ("1d", None),
            ("5ms", None),
            ("-1", None),
            ("99999999999999999999h", None),
            ("9999999999999999999h", None),
        ] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
    }

    fn handed(weight: Option<u32>, ends_in_s: Option<u64>, connections: u64) -> Handed {
        let backend = ([10, 44, 0, 11], 8080).into();
        let by_hand = weight.map(|weight| ByHand { weight, ends_in_s });
        Handed { service: "web".into(), backend, by_hand, connections }
    }

    #[test]
    fn a_backend_is_told_on_one_line() {
        for (handed, expected) in [
            (
                handed(Some(0), Some(580), 31),
                "drained by hand, 31 connections left, ended in 9m 40s",
            ),
            (handed(Some(0), None, 1), "drained by hand, 1 connection left"),
            (handed(Some(5), None, 31), "weight 5 by hand, 31 connections"),
            (handed(None, None, 0), "the file's weight again, 0 connections"),
        ] {
            assert_eq!(told(&handed), format!("web 10.44.0.11:8080: {expected}\n"));
        }
    }

    #[test]
    fn a_backend_that_is_named_no_more_has_been_taken_back() {
        let before = handed(Some(0), None, 31);
        let drift = |by_hand| Drift { by_hand, ..Drift::default() };
        let now = handed(Some(0), None, 12);
        let other = Handed { service: "mail".into(), ..now.clone() };
        assert_eq!(later(drift(vec![other.clone(), now.clone()]), &before), now);
        assert_eq!(later(drift(vec![other]), &before), handed(None, None, 31));
    }
}
