//! What each mode changes in a packet, and what it leaves alone.

use std::net::SocketAddr;

use shunt::dataplane::snapshot::Ports;
use shunt::dataplane::verdict::Reason;

use super::outer::wrapped;
use super::setup::{FAMILIES, Ip, PROTOCOLS, V4, through};
use super::words::{
    DR, FULLNAT, IPIP, MODES, NAT, SYN, first, reset_ack, second, syn, syn_ack, time_exceeded,
    to_backend, vip_says,
};
use super::{At, Rule, rule};
use crate::packets::{Builder, packet};

pub(super) fn rows(at: &At) -> Vec<Rule> {
    let of_family = |ip| {
        let nat = PROTOCOLS.map(|protocol| {
            let (ask, answer) = (first(protocol, ip), second(protocol, ip.backend(), ip.client()));
            rule("nat: the backend sees the client, the client the VIP", through(NAT, ip))
                .case(protocol)
                .client(ask.clone())
                .backend_gets(ask.to(ip.backend()).onward())
                .backend(answer.clone())
                .client_gets(answer.from(ip.vip()).home())
                .made(1)
        });
        let fullnat = PROTOCOLS.map(|protocol| {
            let local = at.local(ip.backend());
            let (ask, answer) = (first(protocol, ip), second(protocol, ip.backend(), local));
            rule("fullnat: both addresses change, both ways", through(FULLNAT, ip))
                .case(protocol)
                .client(ask.clone())
                .backend_gets(ask.between(local, ip.backend()).onward())
                .backend(answer.clone())
                .client_gets(answer.between(ip.vip(), ip.client()).home())
                .made(1)
        });
        let dr = PROTOCOLS.map(|protocol| {
            rule("dr: nothing changes but the link addresses and the TTL", through(DR, ip))
                .case(protocol)
                .client(first(protocol, ip))
                .backend_gets(first(protocol, ip).onward())
                .made(1)
        });
        let tunnel = PROTOCOLS.map(|protocol| {
            let ask = first(protocol, ip).flags_fragment(0x4000);
            let inside = ask.clone().onward();
            rule("tunnel: the packet stays as it was, in an outer one", through(IPIP, ip))
                .case(protocol)
                .client(ask)
                .backend_gets(wrapped(&inside, IPIP, ip, 0))
                .made(1)
        });
        let ttl = MODES.map(|mode| {
            rule("ttl: at 1 the VIP tells time exceeded", through(mode, ip))
                .client(syn(ip).ttl(1))
                .refused(Reason::TtlExpired, vip_says(time_exceeded(ip), &syn(ip).ttl(1)))
                .refusals(1)
        });
        let five = [nat.to_vec(), fullnat.to_vec(), dr.to_vec(), tunnel.to_vec(), ttl.to_vec()];
        [five.concat(), own(ip), answers_direct(ip)].concat()
    };
    FAMILIES.into_iter().flat_map(of_family).collect()
}

/// What a NAT backend begins itself, by way of us: from another port than that of its service, so it can
/// be no answer.
fn own(ip: Ip) -> Vec<Rule> {
    let (from, to): (SocketAddr, SocketAddr) =
        ((ip.host(11), 40_000).into(), (ip.outer_router(), 443).into());
    let echo = if ip == V4 { 8 } else { 128 };
    let ping = packet().between((from.ip(), 0), (to.ip(), 0)).icmp(echo, 0, 1);
    let cases = [
        ("a SYN", packet().tcp(from, to).flags(SYN)),
        ("a datagram", packet().udp(from, to)),
        ("a ping", ping.payload(b"anybody there?")),
    ];
    let name = "nat: what a backend begins itself is the kernel's";
    let row = |(case, frame): (&str, Builder)| {
        rule(name, through(NAT, ip)).case(case).backend(frame.sent_by(11)).punted()
    };
    let mut rows: Vec<Rule> = cases.map(row).to_vec();
    let any = [(ip.vip().ip(), Ports::ALL)];
    let stray = packet().tcp(from, to).flags(SYN).numbers(1000, 0).sent_by(11);
    let answer = to_backend(reset_ack(&stray, 1001), 11);
    rows.push(
        rule(
            "nat: of a backend at every port all is an answer, or refused",
            through(NAT, ip).at(&any).port(0),
        )
        .backend(stray)
        .refused(Reason::NoConnection, answer),
    );
    rows
}

/// In DR and tunnels answers go to the client by themselves. One that comes by all the same is from
/// the VIP, but for none of ours.
fn answers_direct(ip: Ip) -> Vec<Rule> {
    let name = "dr, tunnel: an answer that comes by is the kernel's";
    let row = |mode| {
        let left =
            if mode == DR { syn(ip).onward() } else { wrapped(&syn(ip).onward(), mode, ip, 0) };
        rule(name, through(mode, ip))
            .client(syn(ip))
            .backend_gets(left)
            .backend(syn_ack(ip.vip(), ip.client()))
            .punted()
            .made(1)
    };
    [DR, IPIP].map(row).to_vec()
}
