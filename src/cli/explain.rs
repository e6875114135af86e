//! `shunt explain`: the daemon's explanation of a flow, put on one page.

use std::fmt::Write as _;

use crate::control::admin::answers::explain::{Explanation, Verdict};
use crate::control::admin::view::flow::FlowText;

/// Which flow.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The flow, as `tcp 192.0.2.7:40000 > 198.51.100.10:443`: quote it
    #[arg(value_name = "FLOW")]
    pub flow: FlowText,
    /// The port it arrives by; the first, if nothing is said
    #[arg(long, value_name = "NAME")]
    pub port: Option<String>,
}

/// As lines of a name and what there is to say.
pub fn table(found: &Explanation) -> String {
    let verdict = match found.verdict {
        Verdict::Forward => "forward",
        Verdict::Answer => "answer its sender",
        Verdict::Drop => "drop",
        Verdict::Kernel => "give it to the kernel",
    };
    let reason = found.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    let because = &found.because;
    let mut lines = vec![
        ("flow", format!("{}, arriving by {}", found.flow, found.port)),
        (
            "verdict",
            format!("{verdict}{reason}: {because}").trim_end_matches([':', ' ']).to_owned(),
        ),
    ];
    let mut add = |name, text: Option<String>| lines.extend(text.map(|text| (name, text)));
    let worker = found.worker.map_or_else(String::new, |worker| format!(", worker {worker}"));
    let state = found.state.as_deref().unwrap_or_default();
    add(
        "connection",
        Some(if found.known { format!("{state}{worker}") } else { format!("none{worker}") }),
    );
    let scheduler = found.scheduler.as_deref().unwrap_or_default();
    add("service", found.service.as_ref().map(|name| format!("{name}, scheduler {scheduler}")));
    let example = |text: &str| if found.known { String::new() } else { format!(" ({text})") };
    add("backend", found.backend.map(|it| format!("{it}{}", example("one that may be chosen"))));
    add("local", found.local.map(|it| format!("{it}{}", example("a candidate"))));
    add("leaves as", found.leaves_as.clone());
    let hop = found.leaves_by.as_ref().zip(found.next_hop.as_ref());
    add("next hop", hop.map(|(port, mac)| format!("{mac} by {port}")));
    lines.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:<10} {value}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Explanation {
        Explanation {
            flow: "tcp 192.0.2.7:40000 > 198.51.100.10:443".into(),
            port: "wan".into(),
            verdict: Verdict::Forward,
            reason: None,
            because: "It makes a connection.".into(),
            known: false,
            worker: Some(1),
            state: None,
            service: Some("web".into()),
            scheduler: Some("wrr".into()),
            backend: Some(([10, 44, 0, 11], 8080).into()),
            local: Some(([10, 44, 0, 2], 1025).into()),
            leaves_as: Some("tcp 10.44.0.2:1025 > 10.44.0.11:8080".into()),
            leaves_by: Some("lan".into()),
            next_hop: Some("02:00:00:00:00:0b".into()),
        }
    }

    #[test]
    fn an_explanation_is_one_page() {
        let want = "\
flow       tcp 192.0.2.7:40000 > 198.51.100.10:443, arriving by wan
verdict    forward: It makes a connection.
connection none, worker 1
service    web, scheduler wrr
backend    10.44.0.11:8080 (one that may be chosen)
local      10.44.0.2:1025 (a candidate)
leaves as  tcp 10.44.0.2:1025 > 10.44.0.11:8080
next hop   02:00:00:00:00:0b by lan
";
        assert_eq!(table(&found()), want);
    }

    #[test]
    fn a_refusal_has_its_reason_and_nothing_that_is_not_known() {
        let refused = Explanation {
            verdict: Verdict::Drop,
            reason: Some("denied".into()),
            because: "A list refuses the client's address.".into(),
            backend: None,
            local: None,
            leaves_as: None,
            leaves_by: None,
            next_hop: None,
            ..found()
        };
        let want = "\
flow       tcp 192.0.2.7:40000 > 198.51.100.10:443, arriving by wan
verdict    drop (denied): A list refuses the client's address.
connection none, worker 1
service    web, scheduler wrr
";
        assert_eq!(table(&refused), want);
    }
}
