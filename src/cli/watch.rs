//! `shunt watch`: what happens, a line each as it happens.

use std::io::Write;
use std::time::Duration;

use super::request::{RequestError, Socket};
use crate::control::admin::answers::events::{Changes, Event, Parameters, What};
use crate::control::admin::view::spelled;
use crate::control::words::count;

/// How long to watch.
#[derive(Debug, clap::Args)]
pub struct Watch {
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Prints events as they come: lines for people, or the daemon's JSON. Fails when the daemon ends.
pub fn run(
    asked: &Watch,
    socket: &Socket,
    json: bool,
    out: &mut impl Write,
) -> Result<(), RequestError> {
    let parameters = Parameters { count: asked.count };
    let (mut waiting, mut seen) = (Vec::new(), 0);
    socket.stream("/watch", &parameters, Duration::MAX, |bytes| {
        waiting.extend(bytes);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            let event: Event = serde_json::from_slice(&line).map_err(RequestError::Decode)?;
            seen += u64::from(is_event(&event.what));
            let text = if json { line } else { shown(&event).into_bytes() };
            out.write_all(&text).and_then(|()| out.flush()).map_err(RequestError::Output)?;
        }
        Ok(())
    })?;
    match asked.count {
        Some(count) if seen >= count => Ok(()),
        _ => Err(RequestError::Refused("the daemon has ended the watch".into())),
    }
}

/// Has something happened, or is it about the watch?
fn is_event(what: &What) -> bool {
    !matches!(what, What::Watching { .. } | What::Still | What::Lost { .. })
}

/// The time and a sentence; nothing for a line that only shows that the daemon is there.
fn shown(event: &Event) -> String {
    match sentence(&event.what) {
        Some(sentence) => format!("{} {sentence}\n", utc(event.at_ms)),
        None => String::new(),
    }
}

fn sentence(what: &What) -> Option<String> {
    Some(match what {
        What::Still => return None,
        What::Watching { version, .. } => format!("watching; configuration version {version}"),
        What::Lost { events } => {
            format!("{} lost: this end was too slow", number(*events, "event"))
        }
        What::BackendUp { service, backend } => format!("{service}: backend {backend} is up"),
        What::BackendDown { service, backend, why } if why.is_empty() => {
            format!("{service}: backend {backend} is down")
        }
        What::BackendDown { service, backend, why } => {
            format!("{service}: backend {backend} is down: {why}")
        }
        What::QuorumBack { service } => format!("{service}: quorum is back"),
        What::QuorumLost { service } => format!("{service}: quorum lost"),
        What::Drained { service, backend } => {
            format!("{service}: backend {backend} has drained: no connection is left")
        }
        What::Reload { result, message, changes } => {
            format!("reload {}: {message}{}", spelled(result), listed(changes))
        }
        What::Edited { version, changes } => {
            format!("edited: configuration version {version}{}", listed(changes))
        }
        What::Saved { file } => format!("saved to {file}"),
        What::DriftAppeared { differences } => {
            format!("drift: what runs differs from the file in {}", number(*differences, "line"))
        }
        What::DriftGone => "drift gone: what runs is what the file says".to_owned(),
        What::NextHopFound { address } => format!("next hop of {address} is known again"),
        What::NextHopLost { address, routed: true } => {
            format!("next hop of {address} does not answer")
        }
        What::NextHopLost { address, .. } => format!("no route to {address} through a port"),
        What::TapUp { port } => format!("port {port}: its TAP is up again"),
        What::TapDown { port } => format!("port {port}: its TAP is down or gone"),
        What::WorkerStalled { worker } => format!("worker {worker} stands still"),
        What::WorkerMoves { worker } => format!("worker {worker} moves again"),
        What::CheckThreadEnded => {
            "the thread of health checks has ended; another is started".to_owned()
        }
        What::Ending { connections } => {
            format!("the daemon was told to end; {} left", number(*connections, "connection"))
        }
    })
}

fn number(number: u64, what: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), what)
}

/// Changes, indented below the line they belong to.
fn listed(changes: &Changes) -> String {
    let lines = changes.changes.iter().map(|line| format!("\n    {line}"));
    let more =
        (changes.more_changes > 0).then(|| format!("\n    and {} more", changes.more_changes));
    lines.chain(more).collect()
}

/// Unix time as RFC 3339 writes it. The proleptic Gregorian calendar has 146,097 days in 400 years, and a year that
/// begins in March has its leap day at the end.
fn utc(at_ms: u64) -> String {
    let (seconds, days) = (at_ms / 1000 % 86_400, at_ms / 86_400_000);
    // Since 1 March of the year 0.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::admin::view::ReloadResult;

    #[test]
    fn time_is_written_as_date_1_writes_it() {
        for (at_s, wanted) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(at_s * 1000 + 999), wanted);
        }
    }

    #[test]
    fn an_event_is_a_line_with_its_changes_below_and_silence_is_not_shown() {
        let at_ms = 1_735_689_599_000;
        let of = |what| shown(&Event { number: 1, at_ms, what });
        assert_eq!(of(What::Still), "");
        let down = What::BackendDown {
            service: "web".into(),
            backend: "10.44.0.11:80".parse().unwrap(),
            why: "tcp: refused".into(),
        };
        let time = "2024-12-31T23:59:59Z";
        assert_eq!(of(down), format!("{time} web: backend 10.44.0.11:80 is down: tcp: refused\n"));
        let changes = Changes { changes: vec!["web: gone".into()], more_changes: 3 };
        let reload =
            What::Reload { result: ReloadResult::Applied, message: "4 changes".into(), changes };
        let wanted = format!("{time} reload applied: 4 changes\n    web: gone\n    and 3 more\n");
        assert_eq!(of(reload), wanted);
    }
}
