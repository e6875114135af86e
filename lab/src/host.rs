//! A host: one network namespace with at most a few links.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{cleanup, command};

/// What a new host is set to. What `all` allows an interface may still forbid, and takes from `default`
/// when it is made. Errors about packets are all sent: tests ask for more of them than a kernel sends
/// to one client (one a second, by default), and whether one is left out would hang on the tests before.
const OWN_SETTINGS: [&str; 7] = [
    "net.ipv4.ip_forward=0",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.icmp_ratelimit=0",
    "net.ipv6.icmp.ratelimit=0",
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv6.conf.default.disable_ipv6=1",
];

/// A network namespace; dropping it kills every process in it and removes it.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: String,
}

impl Host {
    /// Makes a host called `name` in the network called `network` (a [`cleanup::unique_name`]).
    ///
    /// It neither routes nor speaks IPv6 ([`Host::speak_ipv6`]), whatever the machine's own settings are: a new namespace
    /// inherits those, and a balancer whose kernel forwards would make every test pass.
    pub fn new(network: &str, name: &str) -> Result<Self> {
        cleanup::park_if_stopping();
        let host = Self { name: name.to_owned(), namespace: format!("{network}-{name}") };
        command::run(Command::new("ip").args(["netns", "add", &host.namespace]))
            .context("making a network namespace (needs root)")?;
        let mut keys = vec!["-qw"];
        keys.extend(OWN_SETTINGS);
        host.run("sysctl", &keys)?;
        host.ip("link set lo up")?;
        Ok(host)
    }

    /// Its name in its network, such as `backend-1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of its network namespace, as `ip netns` shows it.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A command that will run in this host. `ip netns exec` becomes the program, so the child's
    /// pid is the program's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// Runs a program in this host to its end; its standard output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        command::run(self.command(program).args(arguments))
            .with_context(|| format!("on host {}", self.name))
    }

    /// One `ip` command in this host, such as `link set eth0 up`.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.namespace]).args(arguments.split_whitespace());
        command::run(&mut command).with_context(|| format!("on host {}", self.name))
    }

    /// Lets an interface speak IPv6: addresses by hand alone, and of use at once.
    pub fn speak_ipv6(&self, interface: &str) -> Result<()> {
        let keys = ["accept_dad=0", "accept_ra=0", "autoconf=0", "disable_ipv6=0"];
        let keys = keys.map(|key| format!("net.ipv6.conf.{interface}.{key}"));
        self.run("sysctl", &["-qw", &keys[0], &keys[1], &keys[2], &keys[3]])?;
        Ok(())
    }

    /// Gives it a VIP on its loopback, on which it takes packets and for which it answers no ARP: a
    /// backend that is reached by DR or a tunnel. (Neighbour discovery never answers for another
    /// interface's addresses.)
    pub fn carry_vip(&self, vip: impl Into<IpAddr>) -> Result<()> {
        let vip = vip.into();
        if vip.is_ipv4() {
            let silent = ["net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2"];
            self.run("sysctl", &["-qw", silent[0], silent[1]])?;
        } else {
            self.speak_ipv6("lo")?;
        }
        self.ip(&format!("addr add {vip} dev lo"))?;
        Ok(())
    }

    /// Packets this host has received on an interface.
    pub fn received_packets(&self, interface: &str) -> Result<u64> {
        let text = self.ip(&format!("-j -s link show dev {interface}"))?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let count = links.pointer("/0/stats64/rx/packets").and_then(serde_json::Value::as_u64);
        count.with_context(|| format!("no count of packets in {text}"))
    }

    /// Makes it a router for both families.
    pub fn route(&self) -> Result<()> {
        let keys = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
        self.run("sysctl", &["-qw", keys[0], keys[1]])?;
        Ok(())
    }

    /// Joins two hosts by a link (a veth pair, both ends up).
    pub fn link(&self, interface: &str, peer: &Self, peer_interface: &str) -> Result<()> {
        let ends = format!("{interface} netns {}", self.namespace);
        let peer_ends = format!("name {peer_interface} netns {}", peer.namespace);
        let line = format!("link add {ends} type veth peer {peer_ends}");
        command::run(Command::new("ip").args(line.split_whitespace()))?;
        self.ip(&format!("link set {interface} up"))?;
        peer.ip(&format!("link set {peer_interface} up"))?;
        Ok(())
    }

    /// Makes this end of a link send finished packets: checksums computed, no frame over the MTU.
    ///
    /// On a veth link the kernel leaves both to a card that does not exist, and a balancer in user
    /// space would forward half-made checksums.
    pub fn send_whole_packets(&self, interface: &str) -> Result<()> {
        let off = ["-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"];
        self.run("ethtool", &off)?;
        Ok(())
    }

    /// A counter of this host's kernel, such as `TcpExtTCPSynRetrans`, since the host was made.
    pub fn kernel_counter(&self, name: &str) -> Result<u64> {
        let table = self.run("nstat", &["-asz", name])?;
        table
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .find_map(|rest| rest.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("nstat knows no counter {name}"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        cleanup::park_if_stopping();
        cleanup::remove_namespace(&self.namespace);
    }
}
