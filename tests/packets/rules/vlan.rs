//! Tagged ports: 802.1Q and `QinQ`. Nothing behind the edge of a worker sees a tag.

use std::net::SocketAddr;

use shunt::dataplane::verdict::Reason;

use super::setup::{FAMILIES, Ip, Setup, Tagged, through};
use super::words::{NAT, TRANSLATING, reset_ack, syn, syn_ack};
use super::{At, Rule, Side, rule};
use crate::packets::{Builder, packet};

/// VLAN 100, and VLAN 100 in VLAN 200, on the clients' device; VLAN 30 in VLAN 20 on the backends'.
const ONE: Tagged = Tagged { on: Side::Client, outer: 100, inner: None };
const TWO: Tagged = Tagged { on: Side::Client, outer: 200, inner: Some(100) };
const BACK: Tagged = Tagged { on: Side::Backend, outer: 20, inner: Some(30) };

pub(super) fn rows(at: &At) -> Vec<Rule> {
    FAMILIES.into_iter().flat_map(|ip| [mixes(at, ip), edges(ip)].concat()).collect()
}

/// With these ports; backends are behind the tagged one or the device.
fn tagged(setup: Setup, is_back: bool) -> Setup {
    setup.tagged(&[ONE, TWO, BACK], if is_back { 4 } else { 1 })
}

/// Long enough that no link has to fill it up.
fn ask(ip: Ip) -> Builder {
    syn(ip).payload(b"to the service")
}

fn put(tags: Option<Tagged>, frame: impl Into<Vec<u8>>) -> Vec<u8> {
    let frame = frame.into();
    tags.map_or(frame.clone(), |tags| tags.frame(frame))
}

fn mixes(at: &At, ip: Ip) -> Vec<Rule> {
    let mut rows = vec![];
    for mode in TRANSLATING {
        for (case, client) in [("untagged", None), ("802.1Q", Some(ONE)), ("QinQ", Some(TWO))] {
            for (back_case, back) in [("untagged", None), ("QinQ", Some(BACK))] {
                let known = if mode == NAT { ip.client() } else { at.local(ip.backend()) };
                let answer = syn_ack(ip.backend(), known).payload(b"and back");
                let left = answer.clone().between(ip.vip(), ip.client()).home();
                let setup = tagged(through(mode, ip), back.is_some());
                let row = rule("vlan: any mix of tagged and untagged ports serves", setup)
                    .case(format!("{case} to {back_case}"))
                    .client(put(client, ask(ip)))
                    .backend_gets(put(back, ask(ip).between(known, ip.backend()).onward()))
                    .backend(put(back, answer))
                    .client_gets(put(client, left))
                    .made(1);
                rows.push(row);
            }
        }
    }
    rows
}

fn edges(ip: Ip) -> Vec<Rule> {
    let setup = || tagged(through(NAT, ip), false);
    let elsewhere: SocketAddr = (ip.vip().ip(), 81).into();
    let stray = ask(ip).to(elsewhere);
    let unknown = Tagged { outer: 101, ..ONE };
    let arp = packet().ethertype(0x0806).payload(&[1; 46]);
    let answer = syn_ack(ip.backend(), ip.client()).payload(b"and back");
    let got = ask(ip).to(ip.backend()).onward();
    let twins = [("802.1Q", ONE), ("QinQ", TWO)].map(|(case, tags)| {
        rule("vlan: the kernel's twin of a tagged port sees no tags", setup())
            .case(case)
            .client(tags.frame(arp.clone()))
            .punted()
    });
    let rows = [
        rule("vlan: a tag no port has is refused", setup())
            .client(unknown.frame(ask(ip)))
            .dropped(Reason::Vlan),
        rule("vlan: a refusal is answered with the tags of what was refused", setup())
            .client(TWO.frame(stray.clone()))
            .refused(Reason::NoService, TWO.frame(reset_ack(&stray, 1001 + 14))),
        rule("vlan: a client that moves to another VLAN is answered there", setup())
            .client(ONE.frame(ask(ip)))
            .backend_gets(got.clone())
            .client(TWO.frame(ask(ip)))
            .backend_gets(got)
            .backend(answer.clone())
            .client_gets(TWO.frame(answer.from(ip.vip()).home()))
            .made(1),
    ];
    [&rows[..], &twins].concat()
}
