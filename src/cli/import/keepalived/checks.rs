//! What virtual server, real server and check say of when and how often: each has it from the one around it.
//!
//! | keepalived | `shunt.toml` | if nobody says it |
//! |---|---|---|
//! | `delay_loop` | `interval_ms` | a minute |
//! | `connect_timeout`, `misc_timeout` | `timeout_ms` | 5 s; `delay_loop` |
//! | `retry` | `fall`, one more | 1; 3 of `DNS_CHECK`, 0 of `MISC_CHECK` |
//! | `delay_before_retry` | `fast_interval_ms` | 1 s; 3 s of HTTP; `delay_loop` of DNS |
//! | `alpha` | `start = "down"`, of the service | |
//!
//! One success brings a real server back: `rise = 1`. All of it is written, as Shunt's own defaults are others.

use super::super::health::Check;
use super::super::note::Notes;
use super::blocks::Statement;
use super::values::{number, sayable, senseless, switch};
use crate::control::health::probe::sayable as said;

/// What `shunt.toml` takes for intervals and timeouts.
const MS: std::ops::RangeInclusive<u32> = 50..=86_400_000;
/// And for `fall`.
const FALL_MAX: u32 = 1000;
const DELAY_LOOP_MS: u32 = 60_000;
const CONNECT_TIMEOUT_MS: u32 = 5_000;

/// What is known of it so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    delay_loop_ms: Option<u32>,
    timeout_ms: Option<u32>,
    retry: Option<u32>,
    retry_after_ms: Option<u32>,
    /// The host that is asked for by HTTP.
    pub(super) virtualhost: Option<String>,
    /// Is a real server down before it is checked?
    pub(super) alpha: bool,
}

/// What a kind of check has of its own where nobody says anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    /// Of `retry`.
    pub(super) retry: u32,
    /// Of `delay_before_retry`; `None` for `delay_loop`.
    pub(super) retry_after_ms: Option<u32>,
    /// Of `connect_timeout`; `None` for `delay_loop`.
    pub(super) timeout_ms: Option<u32>,
}

impl Usual {
    /// As of most.
    pub(super) const MOST: Self =
        Self { retry: 1, retry_after_ms: Some(1_000), timeout_ms: Some(CONNECT_TIMEOUT_MS) };
}

impl Pace {
    /// Takes a setting. False if it is about something else.
    pub(super) fn take(&mut self, statement: &Statement, notes: &mut Notes) -> bool {
        match statement.keyword() {
            "delay_loop" => self.delay_loop_ms = milliseconds(statement, notes),
            "connect_timeout" | "misc_timeout" => self.timeout_ms = milliseconds(statement, notes),
            "delay_before_retry" => self.retry_after_ms = milliseconds(statement, notes),
            "retry" | "nb_get_retry" => self.retry = number(statement, notes),
            "virtualhost" => self.virtualhost = sayable(statement, said::host, notes),
            "alpha" => self.alpha = switch(statement),
            "warmup" => {
                let why = "first checks are spread over `interval_ms`, without being told";
                notes.remark(&statement.place, &statement.text(), why);
            }
            "log_all_failures" => {
                let why = "the log has what changes, `shunt services --json` the last answer";
                notes.remark(&statement.place, &statement.text(), why);
            }
            _ => return false,
        }
        true
    }

    /// What was said of timeouts is about others.
    pub(super) fn forget_timeout(&mut self) {
        self.timeout_ms = None;
    }

    /// Writes it into a check.
    pub(super) fn write(&self, check: &mut Check, usual: Usual) {
        let interval = self.delay_loop_ms.unwrap_or(DELAY_LOOP_MS);
        let or = |said: Option<u32>, usual: Option<u32>| said.or(usual).unwrap_or(interval);
        let fall = self.retry.unwrap_or(usual.retry).saturating_add(1).min(FALL_MAX);
        check.number("interval_ms", interval);
        check.number("fast_interval_ms", or(self.retry_after_ms, usual.retry_after_ms));
        check.number("timeout_ms", or(self.timeout_ms, usual.timeout_ms));
        check.number("rise", 1);
        check.number("fall", fall);
    }
}

/// Seconds, which may have a fraction.
fn milliseconds(statement: &Statement, notes: &mut Notes) -> Option<u32> {
    let seconds = statement.value().and_then(|text| text.parse::<f64>().ok());
    let Some(seconds) = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0) else {
        senseless(statement, "seconds", notes);
        return None;
    };
    let most = f64::from(*MS.end());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "held to the range"
    )]
    let ms = (seconds * 1000.0).round().clamp(f64::from(*MS.start()), most) as u32;
    if (f64::from(ms) - seconds * 1000.0).abs() > 1.0 {
        let (least, most) = (MS.start(), MS.end());
        let why = format!("it is {least} to {most} milliseconds: {ms} are written");
        notes.changed(&statement.place, &statement.text(), &why);
    }
    Some(ms)
}
