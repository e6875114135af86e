//! `shunt capture` of traffic under way, read by the real `tcpdump`.

use std::fs::File;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lab::network::{self, VIP};
use lab::{Balancer, command, programs};

use crate::harness::Rig;

/// Frames asked for.
const FRAMES: usize = 40;

/// Captures while a client asks for pages; what `shunt` said.
fn captured(rig: &Rig, balancer: &Balancer<'_>, arguments: &[&str]) -> Result<String, String> {
    let url = format!("http://{VIP}/");
    let end = Instant::now() + Duration::from_secs(15);
    thread::scope(|scope| {
        let shunt = scope.spawn(|| balancer.shunt(&[&["capture"], arguments].concat()));
        while !shunt.is_finished() && Instant::now() < end {
            programs::curl_many(&rig.network.clients[0], &url, 5).unwrap();
        }
        shunt.join().unwrap().map_err(|error| format!("{error:#}"))
    })
}

fn read(file: &std::path::Path, filter: &str) -> Vec<String> {
    let mut tcpdump = Command::new("tcpdump");
    let text = command::run(tcpdump.args(["-n", "-r"]).arg(file).arg(filter)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_capture_shows_frames_before_and_after_and_only_those_its_filter_finds() {
    let rig = Rig::new(1, 2);
    let mut balancer = rig.start(rig.web_config(2, "rr", &[(1, 1), (2, 1)]));
    let file = rig.network.folder().join("all.pcapng");
    let name = file.to_str().unwrap();
    let count = FRAMES.to_string();
    let common = ["--seconds", "12", "--count", count.as_str(), "-w"];
    captured(&rig, &balancer, &[&common[..], &[name]].concat()).unwrap();

    let all = read(&file, "");
    assert_eq!(all.len(), FRAMES);
    let client = network::client_address(1);
    let (vip, backends) = (format!("{VIP}.80"), [1, 2].map(network::backend_address));
    let before = format!("host {client} and tcp dst port 80 and dst host {VIP}");
    let after = format!("src host {VIP} and dst host {client}");
    assert!(!read(&file, &before).is_empty(), "{all:?}");
    assert!(!read(&file, &after).is_empty(), "{all:?}");
    for backend in backends {
        assert!(!read(&file, &format!("dst host {backend}")).is_empty(), "{all:?}");
        assert!(!read(&file, &format!("src host {backend}")).is_empty(), "{all:?}");
    }

    // Segments with SYN to the VIP, as they come, of one service.
    let filter = format!("dst host {VIP} and tcp[tcpflags] & tcp-syn != 0");
    let options = ["--service", "web", "--before", "--filter", &filter, "--count", "4", "-w", name];
    captured(&rig, &balancer, &options).unwrap();
    let syns = read(&file, "");
    assert_eq!(syns.len(), 4);
    assert!(syns.iter().all(|it| it.contains(&format!("> {vip}: Flags [S],"))), "{syns:?}");

    // Without a file tcpdump prints.
    let printed = captured(&rig, &balancer, &["--port", "lan", "--after", "--count", "4"]).unwrap();
    assert_eq!(printed.lines().count(), 4, "{printed}");
    let to_backends = |line: &str| backends.iter().any(|it| line.contains(&format!("> {it}.80:")));
    assert!(printed.lines().all(to_backends), "{printed}");
    balancer.stop().unwrap();
}

#[test]
fn what_a_capture_cannot_do_is_said_and_hurts_nothing_else() {
    let rig = Rig::new(1, 1);
    let mut balancer = rig.start(rig.web_config(1, "rr", &[(1, 1)]));
    for (arguments, wanted) in [
        (
            &["--filter", "no such thing", "-w", "-"][..],
            "the filter `no such thing` is not understood",
        ),
        (&["--port", "moon", "-w", "-"], "no port `moon`"),
        (&["--service", "moon", "-w", "-"], "no service"),
        (&["-w", "/dev/full"], "No space left on device"),
    ] {
        let error = captured(&rig, &balancer, arguments).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
    // Whoever left is noticed, and the next one gets its turn.
    let url = format!("http://{VIP}/");
    let end = Instant::now() + Duration::from_secs(10);
    let sink = rig.network.folder().join("again.pcapng");
    while let Err(error) =
        captured(&rig, &balancer, &["--count", "4", "-w", sink.to_str().unwrap()])
    {
        assert!(error.contains("running already") && Instant::now() < end, "{error}");
    }
    assert!(File::open(&sink).is_ok());
    assert!(programs::curl(&rig.network.clients[0], &url).is_ok());
    balancer.stop().unwrap();
}
