//! `-L`: the layouts, to the byte. Scripts cut them by column.
//!
//! ```text
//! Prot LocalAddress:Port Scheduler Flags
//!   -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
//! TCP  198.51.100.10:80 wrr
//!   -> 10.44.0.6:80                 Tunnel  0      0          0          (blanks stay at the end)
//! ```
//!
//! IPv4 names that are longer than their field are cut, IPv6 ones never: so scripts expect it.

use std::fmt::Write as _;

use super::names::Writer;
use super::request::{List, What};
use super::table::{Figures, Server, Service};
use crate::control::admin::view::Connection;
use crate::control::config::mode::{Spelled, SpelledTunnel};
use crate::dataplane::snapshot::Protocol;

/// The version of IPVS whose language this is.
const IPVS: &str = "1.2.1";
/// Width of a backend's name.
const SERVER: usize = 28;
/// Width of a service's name where figures follow it, with the protocol.
const SERVICE: usize = 33;

/// The version line; `size` is that of the connection table.
pub fn version(size: u64) -> String {
    format!("IP Virtual Server version {IPVS} (size={size})\n")
}

/// The list of all services, or of one.
pub fn services(services: &[Service], list: &List) -> String {
    let names = Writer::new(list.numeric);
    let mut text = titles(list.what);
    for service in services {
        text += &service_line(service, list, &names);
        for server in &service.servers {
            let name = cut(
                names.socket(server.address, service.protocol),
                server.address.is_ipv6(),
                SERVER,
            );
            text += &server_line(server, &name, list);
        }
    }
    text
}

/// Of services and of their backends: the figures stand above one or the other.
fn titles(what: What) -> String {
    let (service, server) = match what {
        What::Stats => ("               Conns   InPkts  OutPkts  InBytes OutBytes", ""),
        What::Rate => ("                 CPS    InPPS   OutPPS    InBPS   OutBPS", ""),
        What::Thresholds => ("            Uthreshold Lthreshold ActiveConn InActConn ", ""),
        What::PersistentConn => ("            Weight    PersistConn ActiveConn InActConn ", ""),
        What::TunInfo => {
            (" Scheduler Flags", "           Forward TunnelInfo    Weight ActiveConn InActConn")
        }
        _ => (" Scheduler Flags", "           Forward Weight ActiveConn InActConn"),
    };
    format!("Prot LocalAddress:Port{service}\n  -> RemoteAddress:Port{server}\n")
}

fn service_line(service: &Service, list: &List, names: &Writer) -> String {
    let place = names.place(service.address, service.protocol);
    let name = format!("{:<4} {place}", upper(service.protocol));
    let is_ipv6 = service.address.vip.is_ipv6();
    let figures = match list.what {
        What::Stats => service.total,
        What::Rate => service.rate,
        _ => return format!("{name} {}\n", terms(service)),
    };
    let short = [!list.exact; 2];
    format!("{:<SERVICE$}{}\n", cut(name, is_ipv6, SERVICE), columns(figures, short))
}

/// Scheduler and flags.
fn terms(service: &Service) -> String {
    let mut text = service.scheduler.clone();
    let flags = service.flag_names();
    if !flags.is_empty() {
        let _ = write!(text, " ({})", flags.join(","));
    }
    if let Some((seconds, _)) = service.persistence {
        let _ = write!(text, " persistent {seconds}");
    }
    if let Some(mask) = service.mask() {
        let _ = write!(text, " mask {mask}");
    }
    if service.is_ops {
        text += " ops";
    }
    text
}

fn server_line(server: &Server, name: &str, list: &List) -> String {
    let Server { weight, upper, lower, active, inactive, persistent, .. } = server;
    let forward = server.forward_name();
    let ends = format!("{active:<10} {inactive:<10}");
    match list.what {
        What::Stats => format!("  -> {name:<SERVER$}{}\n", columns(server.total, [!list.exact; 2])),
        // Connections and packets a second of a backend are never abbreviated.
        What::Rate => {
            format!("  -> {name:<SERVER$}{}\n", columns(server.rate, [false, !list.exact]))
        }
        What::Thresholds => format!("  -> {name:<SERVER$} {upper:<10} {lower:<10} {ends}\n"),
        What::PersistentConn => {
            format!("  -> {name:<SERVER$} {weight:<9} {persistent:<11} {ends}\n")
        }
        What::TunInfo => {
            let info = tunnel(&server.forward);
            format!("  -> {name:<SERVER$} {forward:<7} {info:<13} {weight:<6} {ends}\n")
        }
        _ => format!("  -> {name:<SERVER$} {forward:<7} {weight:<6} {ends}\n"),
    }
}

fn tunnel(forward: &Spelled) -> String {
    let Some(SpelledTunnel { kind, port, checksum, remote_checksum }) = &forward.tunnel else {
        return "n/a".to_owned();
    };
    let port = port.map_or(String::new(), |port| format!(":{port}"));
    let sum = match (remote_checksum, checksum) {
        (Some(true), _) => ":r+c",
        (_, Some(true)) => ":+c",
        (_, Some(false)) => ":-c",
        (_, None) => "",
    };
    format!("{kind}{port}{sum}")
}

/// The five; `short` says which of connections and packets, and of bytes, may lose digits.
fn columns(figures: Figures, [counts, bytes]: [bool; 2]) -> String {
    let Figures { connections, in_packets, out_packets, in_bytes, out_bytes } = figures;
    let counts = [connections, in_packets, out_packets].map(|number| column(number, counts));
    counts.concat() + &[in_bytes, out_bytes].map(|number| column(number, bytes)).concat()
}

/// A number nine wide. Large ones may lose their last digits for a letter, or be wider.
fn column(number: u64, may_lose: bool) -> String {
    let scaled = |unit: u64, letter| format!("{:>8}{letter}", number / unit);
    match number {
        _ if !may_lose => format!(" {number:>8}"),
        0..100_000_000 => format!("{number:>9}"),
        100_000_000..1_000_000_000 => scaled(1_000, 'K'),
        1_000_000_000..100_000_000_000 => scaled(1_000_000, 'M'),
        100_000_000_000..100_000_000_000_000 => scaled(1_000_000_000, 'G'),
        _ => scaled(1_000_000_000_000, 'T'),
    }
}

/// A name that fits.
fn cut(name: String, is_ipv6: bool, width: usize) -> String {
    if is_ipv6 { name } else { name.chars().take(width).collect() }
}

fn upper(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

/// `-c`: connections, in the order of the tables.
pub fn connections(connections: &[Connection], list: &List, engines: bool) -> String {
    let names = Writer::new(list.numeric);
    let more = if engines { "        pe name          pe_data" } else { "" };
    let mut text = format!(
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination{more}\n"
    );
    for connection in connections {
        let protocol = match connection.protocol.as_str() {
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let name = |address| names.socket(address, protocol);
        let left_s = connection.expires_ms / 1000;
        let expires = format!("{:02}:{:02}", left_s / 60, left_s % 60);
        let Connection { state, client, vip, backend, .. } = connection;
        let _ = writeln!(
            text,
            "{:<3} {expires:<6} {state:<11} {:<18} {:<18} {}",
            upper(protocol),
            name(*client),
            name(*vip),
            name(*backend),
        );
    }
    text
}

/// `--timeout`
pub fn timeouts(tcp_s: u32, tcp_fin_s: u32, udp_s: u32) -> String {
    format!("Timeout (tcp tcpfin udp): {tcp_s} {tcp_fin_s} {udp_s}\n")
}

/// `-G`: local addresses of services.
pub fn locals(services: &[Service]) -> String {
    let names = Writer::new(true);
    let mut text = format!("{:<22} {:<8} SNAT_IP\n", "VIP:VPORT", "TOTAL");
    for service in services.iter().filter(|service| !service.locals.is_empty()) {
        let place = names.place(service.address, service.protocol);
        let _ = writeln!(text, "{place:<22} {}", service.locals.len());
        for local in &service.locals {
            let _ = writeln!(text, "{:<31} {local}", "");
        }
    }
    text
}
