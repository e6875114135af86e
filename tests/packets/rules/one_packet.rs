//! One-packet scheduling (lvs.md 1.9): every datagram is a connection of its own.

use shunt::dataplane::snapshot::{Mode, Protocol};
use shunt::dataplane::verdict::Reason;

use super::outer::{loosely, wrapped};
use super::setup::{FAMILIES, Ip, Setup, through};
use super::words::{
    DR, FULLNAT, IPIP, MODES, NAT, TRANSLATING, bytes, datagram, host_unreachable,
    port_unreachable, second, to_backend, we_say,
};
use super::{At, Rule, rule};
use crate::packets::fragments::cut;

pub(super) fn rows(at: &At) -> Vec<Rule> {
    let of_family = |ip| [in_turn(at, ip), answers(at, ip), pieces(at, ip)].concat();
    FAMILIES.into_iter().flat_map(of_family).collect()
}

fn alone(mode: Mode, ip: Ip) -> Setup {
    through(mode, ip).one_packet()
}

/// Three backends, newest first: .13, .12, .11. Of the records, what awaits answers is there: one
/// a datagram, or in NAT one a backend.
fn in_turn(at: &At, ip: Ip) -> Vec<Rule> {
    let hosts = [13, 12, 11, 13, 12, 11];
    let ends = hosts.map(|host| (ip.host(host), 8080).into());
    let locals = at.locals(&ends);
    let row = |mode| {
        let mut row = rule(
            "one-packet: every datagram is scheduled anew, and counted",
            alone(mode, ip).backends(3),
        )
        .one_worker();
        for ((host, end), local) in hosts.into_iter().zip(ends).zip(&locals) {
            let ask = datagram(ip).flags_fragment(0x4000);
            let got = match mode {
                FULLNAT => ask.clone().between(*local, end).onward_to(host),
                NAT => ask.clone().to(end).onward_to(host),
                DR => ask.clone().onward_to(host),
                _ => {
                    let outer = wrapped(&ask.clone().onward(), mode, ip, 0).ttl(64);
                    outer
                        .protocol(if ip == super::setup::V4 { 4 } else { 41 })
                        .between((ip.ours(), 0), (ip.host(host), 0))
                        .onward_to(host)
                }
            };
            row = row.client(ask).backend_gets(got);
        }
        row.made(6).open(match mode {
            FULLNAT => 6,
            NAT => 3,
            _ => 0,
        })
    };
    MODES.map(row).to_vec()
}

fn answers(at: &At, ip: Ip) -> Vec<Rule> {
    let rows = TRANSLATING.map(|mode| {
        let locals = match mode {
            NAT => vec![ip.client(); 2],
            _ => at.locals(&[ip.backend(); 2]),
        };
        let there = |n: usize| datagram(ip).between(locals[n], ip.backend()).onward();
        let back = |n: usize| second(Protocol::Udp, ip.backend(), locals[n]);
        let home = |n: usize| back(n).between(ip.vip(), ip.client()).home();
        let asked = |name| rule(name, alone(mode, ip)).client(datagram(ip)).backend_gets(there(0));
        let both = asked("one-packet: answers come from the VIP")
            .client(datagram(ip))
            .backend_gets(there(1))
            .backend(back(1))
            .client_gets(home(1))
            .backend(back(0))
            .client_gets(home(0))
            .made(2)
            .open(if mode == NAT { 1 } else { 2 });
        let speaker = if mode == NAT { ip.ours() } else { ip.local() };
        let late = we_say(speaker, port_unreachable(ip), &back(0));
        let over = asked("one-packet: answers are awaited for five seconds")
            .wait(4)
            .backend(back(0))
            .client_gets(home(0))
            .wait(8)
            .backend(back(0))
            .refused(Reason::NoConnection, to_backend(late, 11))
            .made(1)
            .open(0)
            .expired(1);
        let said = host_unreachable(ip);
        let came =
            super::words::error(ip.inner_router(), locals[0].ip(), said, &there(0).ip_packet());
        let shown = datagram(ip).onward().ip_packet();
        let error = asked("one-packet: an error about a datagram reaches its client")
            .backend(came.sent_by(11))
            .client_gets(super::words::error(ip.vip().ip(), ip.client().ip(), said, &shown).home())
            .made(1);
        [both, over, error]
    });
    rows.concat()
}

/// Later pieces must find the way of the first.
fn pieces(at: &At, ip: Ip) -> Vec<Rule> {
    let row = |mode| {
        let ask = datagram(ip).payload(&bytes(200));
        let gone = match mode {
            FULLNAT => ask.clone().between(at.local(ip.backend()), ip.backend()).onward(),
            NAT => ask.clone().to(ip.backend()).onward(),
            _ => ask.clone().onward(),
        };
        let left = cut(&gone.build(), &[104], super::pieces::number(mode));
        let came = cut(&ask.build(), &[104], 7);
        let row =
            rule("one-packet: a datagram in pieces makes a connection as usual", alone(mode, ip));
        came.into_iter()
            .zip(left)
            .fold(row, |row, (came, left)| row.client(came).backend_gets(left))
            .made(1)
    };
    let ask = datagram(ip);
    let outer = loosely(wrapped(&ask.clone().onward(), IPIP, ip, 0));
    let loose =
        rule("one-packet: nothing is left behind where answers do not pass", alone(IPIP, ip))
            .client(ask)
            .backend_gets(outer)
            .made(1)
            .open(0);
    [FULLNAT, NAT, DR].map(row).into_iter().chain([loose]).collect()
}
