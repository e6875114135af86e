//! `-S`: lines that `-R` reads, and `ipvsadm -R` on a box with IPVS too, but for FULL-NAT.
//!
//! ```text
//! -A -t 198.51.100.10:443 -s sh -p 600 -M 255.255.255.0 -b sh-fallback,sh-port
//! -P -t 198.51.100.10:443 -z 10.44.0.2
//! -a -t 198.51.100.10:443 -r 10.44.0.11:443 -b -w 1 -x 1000 -y 800
//! ```
//!
//! Thresholds are saved, which `ipvsadm` forgets. Local addresses come before backends, so that each line is
//! valid by itself. What IPVS has no words for (a range of ports, all ports without persistence) is a comment, and
//! stays out of what is restored: `shunt save` keeps all.

use std::fmt::Write as _;

use super::names::Writer;
use super::table::{Server, Service};
use crate::control::config::mode::SpelledTunnel;
use crate::dataplane::snapshot::{Ports, Protocol};

/// All services, one command a line.
pub fn lines(services: &[Service], numeric: bool) -> String {
    let names = Writer::new(numeric);
    services.iter().map(|service| service_lines(service, &names)).collect()
}

fn service_lines(service: &Service, names: &Writer) -> String {
    let place = names.place(service.address, service.protocol);
    let Ports { first, last } = service.address.ports;
    let is_all = service.address.ports == Ports::ALL;
    if (first != last && !is_all) || (is_all && service.persistence.is_none()) {
        let backends = service.servers.len();
        return format!("# not saved, IPVS has no such service: {place}, {backends} backends\n");
    }
    let key = format!("{} {place}", letter(service.protocol));
    let mut text = format!("-A {key} -s {}", service.scheduler);
    if let Some((seconds, _)) = service.persistence {
        let _ = write!(text, " -p {seconds}");
    }
    if let Some(mask) = service.mask() {
        let _ = write!(text, " -M {mask}");
    }
    if service.is_ops {
        text += " -o";
    }
    let flags = service.flag_names();
    if !flags.is_empty() {
        let _ = write!(text, " -b {}", flags.join(","));
    }
    text.push('\n');
    for local in &service.locals {
        let _ = writeln!(text, "-P {key} -z {local}");
    }
    for server in &service.servers {
        let name = names.socket(server.address, service.protocol);
        let _ = writeln!(text, "-a {key} -r {name} {}", server_terms(server));
    }
    text
}

fn letter(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "-t",
        Protocol::Udp => "-u",
        Protocol::Sctp => "--sctp-service",
    }
}

fn server_terms(server: &Server) -> String {
    let forward = match server.forward.mode.as_str() {
        "nat" => "-m",
        "dr" => "-g",
        "tunnel" => "-i",
        _ => "-b",
    };
    let mut text = format!("{forward} -w {}", server.weight);
    if let Some(tunnel) = &server.forward.tunnel {
        text += &tunnel_terms(tunnel);
    }
    for (letter, number) in [("-x", server.upper), ("-y", server.lower)] {
        if number > 0 {
            let _ = write!(text, " {letter} {number}");
        }
    }
    text
}

fn tunnel_terms(tunnel: &SpelledTunnel) -> String {
    let SpelledTunnel { kind, port, checksum, remote_checksum } = tunnel;
    let mut text = format!(" --tun-type {kind}");
    if let Some(port) = port {
        let _ = write!(text, " --tun-port {port}");
    }
    text += match (remote_checksum, checksum) {
        (Some(true), _) => " --tun-remcsum",
        (_, Some(true)) => " --tun-csum",
        (_, Some(false)) => " --tun-nocsum",
        (_, None) => "",
    };
    text
}
