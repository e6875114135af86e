//! DPDK's own tools beside the daemon, where the configuration lets them attach.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::huge::HugePages;
use lab::network::{self, VIP};
use lab::program::Program;
use lab::{Balancer, cleanup, command, programs};
use rustix::process::Signal;

use crate::harness::Rig;
use crate::shared_typed::by;

/// The daemon's memory and some for its tables.
const PAGES_MB: u64 = 320;

/// What `tcpdump` reads of a file.
fn read(file: &Path, filter: &str) -> Vec<String> {
    let mut tcpdump = Command::new("tcpdump");
    let text = command::run(tcpdump.args(["-n", "-r"]).arg(file).arg(filter)).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// A balancer whose DPDK other processes may attach to.
fn open_to_others(rig: &Rig) -> Balancer<'_> {
    let mut config = rig.web_config(1, "rr", &[(1, 1)]);
    "require".clone_into(&mut config.dpdk.huge_pages);
    config.dpdk.secondary_processes = Some(true);
    rig.start(config)
}

/// The page's line that begins with this word, with the lab's names and fewer frames.
fn line(rig: &Rig, program: &str) -> String {
    let folder = rig.network.folder().display().to_string();
    let prefix = format!("--file-prefix={}", rig.network.name());
    let typed = by(file!()).into_iter().find(|typed| typed.line.starts_with(program)).unwrap();
    let line = typed.line.replace("/run/shunt", &folder).replace("--file-prefix=shunt", &prefix);
    line.replace("-c 1000 ", "-c 20 ")
}

/// One of DPDK's programs beside the balancer. It is ready when it says this.
fn beside(rig: &Rig, program: &str, ready: &str) -> Program {
    let mut command = rig.network.balancer.command("sh");
    command.args(["-c", &format!("exec stdbuf -o0 {}", line(rig, program))]);
    let mut started = Program::start(&rig.network, program, command).unwrap();
    let is_ready = |it: &Program| Ok((it.stdout() + &it.stderr()).contains(ready));
    started.wait_until_ready(Duration::from_secs(20), is_ready).unwrap();
    started
}

/// Packets of the client to the VIP, and back.
fn both_ways(received: &Path, sent: &Path) -> [usize; 2] {
    let client = network::client_address(1);
    let asked = format!("src host {client} and dst host {VIP} and tcp dst port 80");
    let answered = format!("src host {VIP} and dst host {client} and tcp src port 80");
    [read(received, &asked).len(), read(sent, &answered).len()]
}

#[test]
fn dpdks_own_tools_see_what_a_port_receives_and_sends_and_leave_nothing_behind() {
    let _pages = HugePages::borrow(PAGES_MB).unwrap();
    let rig = Rig::new(1, 1);
    let mut balancer = open_to_others(&rig);
    let url = format!("http://{VIP}/");
    let client = &rig.network.clients[0];
    programs::curl(client, &url).unwrap();

    let folder = rig.network.folder();
    let [received, sent, both] = ["rx.pcap", "tx.pcap", "both.pcapng"].map(|it| folder.join(it));
    let mut pdump = beside(&rig, "dpdk-pdump", "capture");
    programs::curl_many(client, &url, 5).unwrap();
    pdump.signal(Signal::INT).unwrap();
    pdump.wait_for_end(Duration::from_secs(10)).unwrap();
    let [asked, answered] = both_ways(&received, &sent);
    assert!(asked >= 5 && answered >= 5, "{asked}, {answered}: {}", pdump.tail());

    let shown = command::run(Command::new("sh").args(["-c", &line(&rig, "tcpdump")])).unwrap();
    assert!(shown.contains(&VIP.to_string()), "{shown}");

    let mut dumpcap = beside(&rig, "dpdk-dumpcap", "Capturing on");
    programs::curl_many(client, &url, 10).unwrap();
    dumpcap.wait_for_end(Duration::from_secs(10)).unwrap();
    let [asked, answered] = both_ways(&both, &both);
    assert!(asked > 0 && answered > 0, "{asked}, {answered}: {}", dumpcap.tail());

    programs::curl(client, &url).unwrap();
    balancer.stop().unwrap();
    assert_eq!(cleanup::dpdk_files(rig.network.name()), Vec::<PathBuf>::new());
}
