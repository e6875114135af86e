//! What each mode changes in a packet, and what it leaves alone.

use super::outer::wrapped;
use super::setup::{FAMILIES, PROTOCOLS, through};
use super::words::{DR, FULLNAT, IPIP, MODES, NAT, first, second, syn, time_exceeded, vip_says};
use super::{At, Rule, rule};
use shunt::dataplane::verdict::Reason;

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
        [nat.to_vec(), fullnat.to_vec(), dr.to_vec(), tunnel.to_vec(), ttl.to_vec()].concat()
    };
    FAMILIES.into_iter().flat_map(of_family).collect()
}
