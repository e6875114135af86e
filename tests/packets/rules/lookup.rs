//! Which service a packet is for, and what makes a connection (lvs.md 1.1).

use std::net::SocketAddr;

use shunt::dataplane::snapshot::{Ports, Protocol};
use shunt::dataplane::verdict::Reason;

use super::outer::wrapped;
use super::setup::{FAMILIES, Ip, PROTOCOLS, Real, Setup, V4, V6, offer, through};
use super::words::{
    ACK, DR, FIN, FULLNAT, IPIP, NAT, PSH, SYN, data, datagram, first, init, second, segment, syn,
};
use super::{At, Rule, rule};
use crate::packets::packet;

pub(super) fn rows(at: &At) -> Vec<Rule> {
    let of_family = |ip| {
        [specific(ip), places(at, ip), kept_ports(at, ip), creation(ip), refusals(ip), others(ip)]
            .concat()
    };
    FAMILIES.into_iter().flat_map(of_family).collect()
}

/// Services of NAT mode at port 0, 8000 to 8099, 8010 to 8019 and 8015; their backends are .11,
/// .12, .13 and .14.
fn nested(ip: Ip) -> Setup {
    let ranges = [(0, 65_535), (8000, 8099), (8010, 8019), (8015, 8015)];
    let service = |(number, (first, last))| {
        let real = Real { ip, number, port: 0, mode: NAT, weight: Some(1) };
        let mut service = offer(Protocol::Tcp, &[ip.vip()], real);
        service.at = vec![(ip.vip().ip(), Ports { first, last })];
        service
    };
    through(NAT, ip).services((11..).zip(ranges).map(service).collect())
}

fn specific(ip: Ip) -> Vec<Rule> {
    let found = |name, port, backend: u8| {
        let asked: SocketAddr = (ip.vip().ip(), port).into();
        let got = syn(ip).to((ip.host(backend), port).into()).onward_to(backend);
        rule(name, nested(ip)).case(port).client(syn(ip).to(asked)).backend_gets(got).made(1)
    };
    vec![
        found("lookup: the very port comes before any range", 8015, 14),
        found("lookup: the narrowest range comes first", 8010, 13),
        found("lookup: the narrowest range comes first", 8019, 13),
        found("lookup: the narrowest range comes first", 8020, 12),
        found("lookup: a range holds its first and last port", 8000, 12),
        found("lookup: a range holds its first and last port", 8099, 12),
        found("lookup: port 0 takes what no other service does", 8100, 11),
        found("lookup: port 0 takes what no other service does", 7999, 11),
        found("lookup: port 0 takes what no other service does", 1, 11),
        found("lookup: port 0 takes what no other service does", 65_535, 11),
    ]
}

fn places(at: &At, ip: Ip) -> Vec<Rule> {
    let local = at.local(ip.backend());
    let another: SocketAddr = (ip.inner_router(), 443).into();
    let many = [(ip.vip().ip(), Ports::one(80)), (another.ip(), Ports { first: 400, last: 499 })];
    let elsewhere: SocketAddr = (ip.host(99), 80).into();
    vec![
        rule("lookup: an address is a VIP by being in the file", through(FULLNAT, ip))
            .client(syn(ip))
            .backend_gets(syn(ip).between(local, ip.backend()).onward())
            .made(1),
        rule("lookup: a service lists several addresses, ports and ranges", through(NAT, ip))
            .case("another address")
            .reload(through(NAT, ip).at(&many))
            .client(syn(ip).to(another))
            .backend_gets(syn(ip).to(ip.backend()).onward())
            .made(1),
        rule("lookup: what is for no VIP is the kernel's, unchanged", through(FULLNAT, ip))
            .client(syn(ip).to(elsewhere))
            .punted(),
    ]
}

/// A service at every port, its backend's port 0.
fn kept_ports(at: &At, ip: Ip) -> Vec<Rule> {
    let any = [(ip.vip().ip(), Ports::ALL)];
    let asked: SocketAddr = (ip.vip().ip(), 8042).into();
    let kept: SocketAddr = (ip.host(11), 8042).into();
    let name = "lookup: backend port 0 is the port the client asked for";
    let mapped = "lookup: a service at every port may have one backend port";
    let local = at.local(kept);
    let by_protocol = PROTOCOLS.map(|protocol| {
        let (ask, answer) = (first(protocol, ip).to(asked), second(protocol, kept, local));
        let other = second(protocol, kept, ip.client());
        let inside = ask.clone().flags_fragment(0x4000).onward();
        let one = second(protocol, ip.backend(), ip.client());
        [
            rule(name, through(FULLNAT, ip).at(&any).port(0))
                .case(protocol)
                .client(ask.clone())
                .backend_gets(ask.clone().between(local, kept).onward())
                .backend(answer.clone())
                .client_gets(answer.between(asked, ip.client()).home())
                .made(1),
            rule(name, through(NAT, ip).at(&any).port(0))
                .case(protocol)
                .client(ask.clone())
                .backend_gets(ask.clone().to(kept).onward())
                .backend(other.clone())
                .client_gets(other.from(asked).home())
                .made(1),
            rule(name, through(DR, ip).at(&any).port(0))
                .case(protocol)
                .client(ask.clone())
                .backend_gets(ask.clone().onward())
                .made(1),
            rule(name, through(IPIP, ip).at(&any).port(0))
                .case(protocol)
                .client(ask.clone().flags_fragment(0x4000))
                .backend_gets(wrapped(&inside, IPIP, ip, 0))
                .made(1),
            rule(mapped, through(NAT, ip).at(&any))
                .case(protocol)
                .client(ask.clone())
                .backend_gets(ask.to(ip.backend()).onward())
                .backend(one.clone())
                .client_gets(one.from(asked).home())
                .made(1),
        ]
    });
    by_protocol.concat()
}

fn creation(ip: Ip) -> Vec<Rule> {
    let makes = |name, case: &'static str, ask: crate::packets::Builder| {
        let got = ask.clone().to(ip.backend()).onward();
        rule(name, through(NAT, ip)).case(case).client(ask).backend_gets(got).made(1)
    };
    let syn_with = |flags| syn(ip).flags(flags);
    let tcp = "create: a SYN without RST makes a connection";
    let from = |port| -> SocketAddr { (ip.client().ip(), port).into() };
    vec![
        makes(tcp, "SYN", syn_with(SYN)),
        makes(tcp, "SYN+ACK", syn_with(SYN | ACK)),
        makes(tcp, "SYN+FIN", syn_with(SYN | FIN)),
        makes(tcp, "SYN with data", syn_with(SYN | PSH).payload(b"early")),
        makes("create: every datagram makes a connection", "data", datagram(ip)),
        makes("create: every datagram makes a connection", "empty", datagram(ip).payload(b"")),
        makes("create: INIT makes an association", "INIT", init(ip)),
        makes("create: source port 20 is FTP's in TCP alone", "UDP", datagram(ip).from(from(20))),
        makes("create: source port 20 is FTP's in TCP alone", "SCTP", init(ip).from(from(20))),
        makes("create: source port 20 is FTP's in TCP alone", "21", syn(ip).from(from(21))),
    ]
}

/// What may be over when the client tries again is refused in silence.
fn refusals(ip: Ip) -> Vec<Rule> {
    let ftp_data = syn(ip).from((ip.client().ip(), 20).into());
    let name = "create: what cannot be for want of something is dropped in silence";
    let reset = super::words::reset_ack(&ftp_data, 1001);
    vec![
        rule("create: TCP from port 20 never does", through(NAT, ip))
            .client(ftp_data)
            .refused(Reason::NoConnection, reset),
        rule(name, through(FULLNAT, ip).draining())
            .case("the daemon drains")
            .client(syn(ip))
            .dropped(Reason::Draining)
            .refusals(1),
        rule(name, through(FULLNAT, ip).unresolved())
            .case("no link address")
            .client(syn(ip))
            .dropped(Reason::NextHop)
            .refusals(1),
        rule(name, through(NAT, ip).capacity(1))
            .case("a full table of connections that live")
            .client(syn(ip))
            .backend_gets(syn(ip).to(ip.backend()).onward())
            .client(data(ip, b"x"))
            .backend_gets(data(ip, b"x").to(ip.backend()).onward())
            .client(syn(ip).from((ip.client().ip(), 7).into()))
            .dropped(Reason::TableFull)
            .made(1)
            .refusals(1)
            .one_worker(),
        rule("create: draining leaves alone what lives", through(DR, ip))
            .client(syn(ip))
            .backend_gets(syn(ip).onward())
            .reload(through(DR, ip).draining())
            .client(segment(ip))
            .backend_gets(segment(ip).onward())
            .made(1),
    ]
}

/// Two services with one NAT backend: what comes back to a client's port could be either's.
fn one_port(ip: Ip, protocol: Protocol) -> Rule {
    let real = Real { ip, number: 11, port: 8080, mode: NAT, weight: Some(1) };
    let second: SocketAddr = (ip.vip().ip(), 81).into();
    let services = [ip.vip(), second].map(|at| offer(protocol, &[at], real.clone()));
    let setup = through(NAT, ip).services(services.to_vec());
    let ask = first(protocol, ip);
    rule("nat: a client's port is one VIP's towards one backend", setup)
        .case(protocol)
        .client(ask.clone())
        .backend_gets(ask.clone().to(ip.backend()).onward())
        .client(ask.to(second))
        .dropped(Reason::ClientPort)
        .made(1)
        .refusals(1)
}

/// A routing header of IPv6, a source route of IPv4, and options that hide what they are.
fn routed(ip: Ip) -> Vec<Rule> {
    let name = "lookup: what routes itself on from a VIP is refused";
    let row = |case, ask: crate::packets::Builder| {
        let row = rule(name, through(NAT, ip)).case(case);
        row.client(ask).dropped(Reason::Extensions)
    };
    if ip == V6 {
        return vec![row("a routing header", syn(V6).extension(43, &[0, 0, 1, 0, 0, 0, 0]))];
    }
    let route = |kind| [1, kind, 7, 4, 192, 0, 2, 9];
    let ended = [131, 7, 8, 198, 51, 100, 9, 0];
    let open = syn(V4).to(V4.backend()).onward();
    let harmless = [1, 1, 7, 6, 4, 0, 0, 0].as_slice();
    vec![
        row("loose", syn(V4).ip_options(&route(131))),
        row("strict", datagram(V4).ip_options(&route(137))),
        row("at its end", init(V4).ip_options(&ended)),
        row("in pieces", datagram(V4).ip_options(&route(131)).flags_fragment(0x2000)),
        row(
            "a ping",
            packet().between(V4.client(), V4.vip()).icmp(8, 0, 1).ip_options(&route(131)),
        ),
        row("cut off", syn(V4).ip_options(&[7, 9, 4, 0])),
        row("without end", syn(V4).ip_options(&[7, 1, 4, 0])),
        rule(
            "forward: identification, DF, TOS, ECN, flow label and options stay",
            through(NAT, V4),
        )
        .case("record route")
        .client(syn(V4).ip_options(harmless))
        .backend_gets(open.ip_options(harmless))
        .made(1),
    ]
}

fn others(ip: Ip) -> Vec<Rule> {
    let other = |number| packet().between(ip.client(), ip.vip()).protocol(number).payload(&[0; 24]);
    let refused = [("ESP", 50), ("AH", 51), ("GRE", 47)].map(|(name, number)| {
        rule("lookup: what is not TCP, UDP or SCTP ends at a VIP", through(NAT, ip))
            .case(name)
            .client(other(number))
            .dropped(Reason::Protocol)
    });
    let mut rows = refused.to_vec();
    rows.extend(PROTOCOLS.map(|protocol| one_port(ip, protocol)));
    rows.extend(routed(ip));
    rows
}
