//! Every mode in both families: bytes, datagrams, pieces, many connections, and who sees whom.
//!
//! All of [`crate::ways::WAYS`] through one daemon. What fails is gathered and told together, so
//! that one look shows which ways a fault concerns.

use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::network::{VIPS, VIPS6, WAN, WAN6};
use lab::{Host, programs};

use crate::ways::{ECHO, Everyone, Way, on_every_way};

const TRANSFER_BYTES: u64 = 3_000_000;
/// On each way; [`crate::load`] has many more.
const CONNECTIONS: u64 = 340;
/// Under way at once, and so short of what fits a backlog.
const THREADS: &str = "16";

/// A file of random bytes, in the web folder of every backend too, and its hash.
pub(crate) struct Original {
    pub(crate) file: PathBuf,
    hash: String,
}

impl Original {
    pub(crate) fn new(everyone: &Everyone) -> Self {
        let original = Self::in_folder(everyone.rig.network.folder());
        for web in &everyone.rig.web {
            fs::copy(&original.file, web.folder.join("blob")).unwrap();
        }
        original
    }

    /// The file and its hash alone.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let file = folder.join("original");
        let mut random = fs::File::open("/dev/urandom").unwrap().take(TRANSFER_BYTES);
        std::io::copy(&mut random, &mut fs::File::create(&file).unwrap()).unwrap();
        Self { hash: programs::sha256(&file).unwrap(), file }
    }

    pub(crate) fn is(&self, copy: &Path) -> Result<()> {
        let hash = programs::sha256(copy)?;
        ensure!(hash == self.hash, "{} has another hash", copy.display());
        Ok(())
    }
}

/// Down and up, whole, for one client.
pub(crate) fn transfer(
    everyone: &Everyone,
    original: &Original,
    client: &Host,
    way: Way,
) -> Result<()> {
    let name = format!("{}-{}", way.name, client.name());
    let down = everyone.rig.network.folder().join(&name);
    programs::download(client, &way.url("blob"), &down).context("download")?;
    original.is(&down)?;
    programs::upload(client, &original.file, &way.url(&name)).context("upload")?;
    let web = &everyone.rig.web[usize::from(way.backend) - 1];
    original.is(&web.folder.join(&name))
}

/// The right backend answers and sees the address that this mode shows it.
fn seen(everyone: &Everyone, way: Way) -> Result<()> {
    let body = programs::curl(everyone.narrow_client(), &way.url(""))?;
    let words: Vec<_> = body.split(' ').collect();
    ensure!(words[0] == way.backend_name(), "{} answered", words[0]);
    let saw: IpAddr = words[1].parse()?;
    ensure!(way.seen().contains(&saw), "the backend saw {saw}");
    Ok(())
}

/// So many datagrams, each answered.
pub(crate) fn datagrams(
    everyone: &Everyone,
    client: &Host,
    way: Way,
    size: &str,
    count: u64,
) -> Result<()> {
    let sources = count.to_string();
    let arguments = ["--sources", &sources, "--size", size];
    let report = programs::udp_load(&everyone.rig.binaries, client, way.at(ECHO), &arguments)?;
    ensure!((report.ok, report.failed) == (count, 0), "{size} bytes: {report:?}");
    ensure!(report.backend(&way.backend_name()) == count, "{report:?}");
    let seen = report.sources.keys().all(|it| way.seen().iter().any(|at| at.to_string() == *it));
    ensure!(seen || client.name() != "client-1", "{report:?}");
    Ok(())
}

/// Datagrams of three pieces, from a client that may take long packets and sends none.
///
/// A packet socket of DPDK's sees IPv4 pieces put together again, so the balancer cuts those anew;
/// pieces of IPv6 it sees as they are.
pub(crate) fn pieces(everyone: &Everyone, way: Way) -> Result<()> {
    let client = everyone.wide_client();
    // In a tunnel pieces of 1500 bytes are too big, and the first tells the client so.
    let _learns = datagrams(everyone, client, way, "4000", 1);
    datagrams(everyone, client, way, "4000", 5)
}

/// Many short connections, all served.
fn connections(everyone: &Everyone, way: Way) -> Result<()> {
    let (rig, client) = (&everyone.rig, everyone.narrow_client());
    let count = CONNECTIONS.to_string();
    let arguments = ["--requests", &count, "--threads", THREADS, "--seconds-max", "20"];
    let mut load = programs::load(&rig.network, &rig.binaries, client, way.at(80), &arguments)?;
    let report = programs::load_report(&mut load, Duration::from_secs(30))?;
    ensure!((report.ok, report.failed) == (CONNECTIONS, 0), "{report:?}");
    Ok(())
}

fn every_way(workers: usize) {
    let everyone = Everyone::new();
    let original = Original::new(&everyone);
    let mut balancer = everyone.rig.start(everyone.config(workers));
    let client = everyone.narrow_client();
    for (vips, gateway) in [(VIPS, WAN.to_string()), (VIPS6, WAN6.to_string())] {
        let route = format!("route change {vips} via {gateway} mtu 1500");
        everyone.wide_client().ip(&route).unwrap();
    }
    let failures = [
        on_every_way("shows", |way| seen(&everyone, way)),
        on_every_way("transfers", |way| transfer(&everyone, &original, client, way)),
        on_every_way("echoes", |way| datagrams(&everyone, client, way, "40", 20)),
        on_every_way("echoes", |way| datagrams(&everyone, client, way, "1400", 5)),
        on_every_way("echoes pieces", |way| pieces(&everyone, way)),
        on_every_way("connects", |way| connections(&everyone, way)),
    ];
    let failures = failures.concat();
    let drops = balancer.shunt(&["status"]).unwrap();
    assert!(failures.is_empty(), "\n{}\n{drops}", failures.join("\n"));
    balancer.stop().unwrap();
    for far_end in &everyone.far_ends {
        assert_eq!(far_end.stderr(), "", "what was wrong with packets out of a tunnel");
    }
}

#[test]
fn every_mode_serves_both_families_with_one_worker() {
    every_way(1);
}

#[test]
fn every_mode_serves_both_families_with_two_workers() {
    every_way(2);
}

#[test]
fn every_mode_serves_both_families_with_four_workers() {
    every_way(4);
}
