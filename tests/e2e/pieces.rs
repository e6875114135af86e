//! Datagrams in pieces that reach the balancer as pieces, in both families and every mode.
//!
//! ```text
//!   client ── link ── lc ⇄ tapc ── Shunt ── taps ⇄ ls ── link ── backend
//!                          └ watched by tcpdump ┘
//! ```
//!
//! A packet socket of DPDK's asks the kernel to put IPv4 pieces together, so the other scenarios
//! see whole datagrams. A TAP of DPDK's does not. The kernels at both ends cut and reassemble; a
//! client of the lab's sends the last piece first.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::config::Config;
use lab::{Balancer, Program, programs, wait};

use crate::families::datagrams;
use crate::ways::{ECHO, Everyone, Way, on_every_way};

/// The TAPs, client side first.
const TAPS: [&str; 2] = ["tapc", "taps"];
/// Datagrams of each kind, on each way.
const DATAGRAMS: u64 = 4;
/// Pieces of each, on a link of 1500 bytes: 4,000 bytes and headers.
const PIECES: u64 = 3;
/// Everything in pieces, of either family.
const FILTER: &str = "(ip and ip[6:2] & 0x3fff != 0) or (ip6 and ip6[6] == 44)";
/// IPv4 of more than the link carries: put together on the way.
const WHOLE: &str = "ip and len > 1514";

fn config(everyone: &Everyone, workers: usize) -> Config {
    let mut config = everyone.config(workers);
    config.dpdk.memory_mb = 256;
    for (number, (port, tap)) in config.port.iter_mut().zip(TAPS).enumerate() {
        port.mtu = None;
        port.make_tap(number, tap);
    }
    config
}

/// Joins the TAPs of a daemon that has started, and waits until it knows its neighbours.
fn join(everyone: &Everyone, balancer: &Balancer<'_>) {
    everyone.rig.network.join_taps(TAPS).unwrap();
    let known = || {
        let metrics = balancer.metrics()?;
        let resolved = metrics.sum("shunt_backends_next_hop", &[("state", "resolved")]);
        Ok(resolved == metrics.sum("shunt_backends_next_hop", &[]))
    };
    wait::until_true("the backends' link addresses", Duration::from_secs(30), known).unwrap();
}

/// Counts what a TAP carries: `direction` is the kernel's, `out` is towards Shunt.
fn watch(everyone: &Everyone, tap: &str, direction: &str, filter: &str) -> Program {
    let network = &everyone.rig.network;
    let mut tcpdump = network.balancer.command("tcpdump");
    tcpdump.args(["-i", tap, "-Q", direction, "-n", "-l", "--immediate-mode", filter]);
    let what = format!("tcpdump-{tap}-{direction}-{}", filter.len());
    let mut program = Program::start(network, &what, tcpdump).unwrap();
    let listening = |program: &Program| Ok(program.stderr().contains("listening on"));
    program.wait_until_ready(Duration::from_secs(10), listening).unwrap();
    program
}

fn count(watch: &Program) -> u64 {
    watch.stdout().lines().count() as u64
}

/// The client's kernel cuts.
fn cut_by_the_kernel(everyone: &Everyone, way: Way) -> Result<()> {
    let client = everyone.narrow_client();
    if way.ipv6 && way.overhead > 0 {
        // In a tunnel these pieces are too big, and the first tells the client so.
        let _learns = datagrams(everyone, client, way, "4000", 1);
    }
    datagrams(everyone, client, way, "4000", DATAGRAMS)
}

/// The client sends its pieces in this order.
fn cut_by_hand(everyone: &Everyone, way: Way, order: &str) -> Result<()> {
    let count = DATAGRAMS.to_string();
    let arguments = ["--order", order, "--count", &count];
    let (binaries, client) = (&everyone.rig.binaries, everyone.narrow_client());
    let report = programs::pieces(binaries, client, way.at(ECHO), &arguments)?;
    ensure!((report.ok, report.failed) == (DATAGRAMS, 0), "{report:?}");
    ensure!(report.backend(&way.backend_name()) == DATAGRAMS, "{report:?}");
    Ok(())
}

/// Datagrams the way's backend has put together of pieces.
fn reassembled(everyone: &Everyone, way: Way) -> Result<u64> {
    let backend = &everyone.rig.network.backends[usize::from(way.backend) - 1];
    Ok(backend.kernel_counter("IpReasmOKs")? + backend.kernel_counter("Ip6ReasmOKs")?)
}

/// Does it. As many pieces, at the least, must go in; as many must come out, unless a tunnel hides
/// them; and the backend must have put them together.
fn watched(
    everyone: &Everyone,
    way: Way,
    [into, out]: [&Program; 2],
    act: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let before = (count(into), count(out), reassembled(everyone, way)?);
    act()?;
    let least = DATAGRAMS * PIECES;
    let seen = || {
        let came_out = way.overhead > 0 || count(out) >= before.1 + least;
        Ok(count(into) >= before.0 + least && came_out)
    };
    let what = format!("{least} pieces in and out, beyond {before:?}");
    wait::until_true(&what, Duration::from_secs(5), seen)?;
    let whole = reassembled(everyone, way)? - before.2;
    ensure!(whole >= DATAGRAMS, "the backend put {whole} together");
    Ok(())
}

fn real_pieces(workers: usize) {
    let everyone = Everyone::new();
    let mut balancer = everyone.rig.start(config(&everyone, workers));
    join(&everyone, &balancer);
    let [into, out, whole] = [
        watch(&everyone, TAPS[0], "out", FILTER),
        watch(&everyone, TAPS[1], "in", FILTER),
        watch(&everyone, TAPS[0], "out", WHOLE),
    ];
    let watching = [&into, &out];
    let mut failures = on_every_way("carries pieces", |way| {
        watched(&everyone, way, watching, || cut_by_the_kernel(&everyone, way))
    });
    for order in ["forward", "reversed", "shuffled"] {
        let what = format!("carries pieces sent {order}");
        failures.extend(on_every_way(&what, |way| {
            watched(&everyone, way, watching, || cut_by_hand(&everyone, way, order))
        }));
    }
    let status = balancer.shunt(&["status"]).unwrap();
    assert!(failures.is_empty(), "\n{}\n{status}", failures.join("\n"));
    assert_eq!(count(&whole), 0, "no whole datagram reached it: {}", whole.stdout());
    balancer.stop().unwrap();
}

#[test]
fn datagrams_arrive_in_pieces_and_leave_in_pieces_with_one_worker() {
    real_pieces(1);
}

#[test]
fn datagrams_arrive_in_pieces_and_leave_in_pieces_with_two_workers() {
    real_pieces(2);
}

#[test]
fn datagrams_arrive_in_pieces_and_leave_in_pieces_with_four_workers() {
    real_pieces(4);
}
