//! `shunt trace`: the next packets of a flow, a line each as they pass.

use std::io::Write;
use std::time::Duration;

use super::request::{RequestError, Socket};
use crate::control::admin::answers::trace::{
    Line, PACKETS, PACKETS_MAX, Parameters, SECONDS, SECONDS_MAX,
};
use crate::control::admin::view::flow::FlowText;

/// What a daemon may take beyond the trace's own time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which flow, and how long.
#[derive(Debug, clap::Args)]
pub struct Trace {
    /// The flow, as `tcp 192.0.2.7:40000 > 198.51.100.10:443`: quote it
    #[arg(long, value_name = "FLOW")]
    flow: FlowText,
    /// End after so many packets, both directions together
    #[arg(long, value_name = "N", default_value_t = PACKETS,
          value_parser = clap::value_parser!(u64).range(1..=PACKETS_MAX))]
    count: u64,
    /// End after so many seconds
    #[arg(long, value_name = "S", default_value_t = SECONDS,
          value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
}

/// Prints packets as they come: lines for people, or the daemon's JSON.
pub fn run(
    asked: &Trace,
    socket: &Socket,
    json: bool,
    out: &mut impl Write,
) -> Result<(), RequestError> {
    let parameters = Parameters {
        flow: asked.flow.to_string(),
        count: Some(asked.count),
        seconds: Some(asked.seconds),
    };
    let patience = Duration::from_secs(asked.seconds) + PATIENCE;
    let mut waiting = Vec::new();
    socket.stream("/trace", &parameters, patience, |bytes| {
        waiting.extend(bytes);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            let text = if json {
                line
            } else {
                let line = serde_json::from_slice(&line).map_err(RequestError::Decode)?;
                shown(&line).into_bytes()
            };
            out.write_all(&text).and_then(|()| out.flush()).map_err(RequestError::Output)?;
        }
        Ok(())
    })
}

/// A packet on two lines: what became of it, and where its cycles went.
fn shown(line: &Line) -> String {
    let (seconds, rest) = (line.at_ns / 1_000_000_000, line.at_ns % 1_000_000_000 / 1000);
    let known = if line.known { "known" } else { "unknown" };
    let over = if line.taken_over { ", taken over" } else { "" };
    let reason = line.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    let cycles = line.cycles;
    format!(
        "{seconds}.{rest:06} {} in by {}, worker {}{over}: {known}, {}{reason}\n         \
         parse {} lookup {} wait {} decide {} send {} cycles\n",
        line.flow,
        line.port,
        line.worker,
        line.became,
        cycles.parse,
        cycles.lookup,
        cycles.wait,
        cycles.decide,
        cycles.send
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::admin::answers::trace::Cycles;

    #[test]
    fn a_packet_is_told_with_its_way_and_its_cycles() {
        let line = Line {
            at_ns: 1_234_567_890,
            worker: 1,
            flow: "tcp 192.0.2.7:40000 > 198.51.100.10:443".into(),
            port: "wan".into(),
            taken_over: true,
            known: false,
            became: "dropped".into(),
            reason: Some("no_backend".into()),
            cycles: Cycles { parse: 120, lookup: 80, wait: 7, decide: 350, send: 900 },
        };
        let want = "\
1.234567 tcp 192.0.2.7:40000 > 198.51.100.10:443 in by wan, worker 1, taken over: unknown, dropped (no_backend)
         parse 120 lookup 80 wait 7 decide 350 send 900 cycles
";
        assert_eq!(shown(&line), want);
    }
}
