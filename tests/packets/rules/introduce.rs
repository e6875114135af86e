//! How a backend learns who the client is (lvs.md 4.2, 4.4): TOA and PROXY protocol.

use std::net::{IpAddr, SocketAddr};

use shunt::dataplane::snapshot::{ClientAddress, Mode};
use shunt::dataplane::verdict::Reason;

use super::setup::{FAMILIES, Ip, Setup, V4, V6, through};
use super::words::{
    FULLNAT, NAT, TRANSLATING, backend_ack, bytes, data, datagram, segment, syn, syn_ack,
};
use super::{At, Rule, rule};
use crate::packets::Builder;
use crate::packets::fragments::{cut, seal};

const TOA: ClientAddress = ClientAddress::Toa { kind_v6: 254 };
const TOA_253: ClientAddress = ClientAddress::Toa { kind_v6: 253 };
const V1: ClientAddress = ClientAddress::ProxyV1;
const V2: ClientAddress = ClientAddress::ProxyV2;

/// Maximum segment size 1460.
const MSS_1460: [u8; 4] = [2, 4, 5, 180];

pub(super) fn rows(at: &At) -> Vec<Rule> {
    let of_family = |ip| {
        let hosts = TRANSLATING.map(|mode| Road { at, mode, ip });
        let both = hosts.into_iter().flat_map(|road| [road.toa(), road.proxy()].concat());
        let one = Road { at, mode: FULLNAT, ip };
        both.chain([one.room(), one.datagrams(), one.pieces(), one.trusted()].concat())
            .collect::<Vec<_>>()
    };
    FAMILIES.into_iter().flat_map(of_family).collect()
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The option: kind, length, the client's port and address.
fn option(how: ClientAddress, ip: Ip) -> Vec<u8> {
    let kind = if how == TOA_253 && ip == V6 { 253 } else { 254 };
    let length = if ip == V4 { 8 } else { 20 };
    let client = ip.client();
    [&[kind, length][..], &client.port().to_be_bytes(), &octets(client.ip())].concat()
}

/// The header of a stream or, as version 2 says it, of datagrams.
fn header(how: ClientAddress, ip: Ip, is_stream: bool) -> Vec<u8> {
    let (client, vip) = (ip.client(), ip.vip());
    if how == V1 {
        let line = match ip {
            V4 => "PROXY TCP4 192.0.2.2 198.51.100.7 40000 80\r\n",
            V6 => "PROXY TCP6 2001:db8:c:0:0:0:0:2 2001:db8:5:0:0:0:0:7 40000 80\r\n",
        };
        return line.as_bytes().to_vec();
    }
    let (family, length) = if ip == V4 { (0x10, 12) } else { (0x20, 36) };
    let transport = if is_stream { 1 } else { 2 };
    let start = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x21, family | transport, 0, length]].concat();
    let ports = [client.port().to_be_bytes(), vip.port().to_be_bytes()].concat();
    [start, octets(client.ip()), octets(vip.ip()), ports].concat()
}

/// Of a datagram in pieces: four bytes of nothing more, so that offsets stay multiples of eight.
fn padded(ip: Ip) -> Vec<u8> {
    let mut header = header(V2, ip, false);
    header[15] += 4;
    [header, vec![4, 0, 1, 0]].concat()
}

/// A mode and family.
#[derive(Clone, Copy)]
struct Road<'a> {
    at: &'a At,
    mode: Mode,
    ip: Ip,
}

impl Road<'_> {
    fn setup(self, how: ClientAddress) -> Setup {
        through(self.mode, self.ip).introducing(how)
    }

    /// As whom the backend knows the client.
    fn known(self) -> SocketAddr {
        if self.mode == NAT { self.ip.client() } else { self.at.local(self.ip.backend()) }
    }

    fn there(self, ask: Builder) -> Builder {
        ask.between(self.known(), self.ip.backend()).onward()
    }

    fn answer(self) -> Builder {
        syn_ack(self.ip.backend(), self.known())
    }

    fn home(self, answer: Builder) -> Builder {
        answer.between(self.ip.vip(), self.ip.client()).home()
    }

    fn named(self, name: &'static str, how: ClientAddress) -> Rule {
        let case = match how {
            TOA => "TOA",
            TOA_253 => "TOA of kind 253",
            V1 => "version 1",
            _ => "version 2",
        };
        rule(name, self.setup(how)).case(case)
    }

    /// SYN and its answer with TOA.
    fn with_toa(self, name: &'static str, how: ClientAddress) -> Rule {
        let option = option(how, self.ip);
        self.named(name, how)
            .client(syn(self.ip))
            .backend_gets(self.there(syn(self.ip).tcp_options(&option)))
            .backend(self.answer())
            .client_gets(self.home(self.answer()))
            .made(1)
    }

    fn toa(self) -> Vec<Rule> {
        let ip = self.ip;
        let kinds: &[ClientAddress] = if ip == V4 { &[TOA] } else { &[TOA, TOA_253] };
        let mut rows = vec![];
        for &how in kinds {
            let own = option(how, ip);
            let hello = data(ip, b"hello");
            let more = data(ip, b"more").numbers(1006, 501);
            rows.push(
                self.with_toa("toa: in the SYN and the first data, and in its retransmission", how)
                    .client(segment(ip))
                    .backend_gets(self.there(segment(ip)))
                    .client(hello.clone())
                    .backend_gets(self.there(hello.clone().tcp_options(&own)))
                    .client(hello.clone())
                    .backend_gets(self.there(hello.tcp_options(&own)))
                    .backend(backend_ack(ip.backend(), self.known()).numbers(501, 1006))
                    .client_gets(
                        self.home(backend_ack(ip.backend(), self.known()).numbers(501, 1006)),
                    )
                    .client(more.clone())
                    .backend_gets(self.there(more)),
            );
        }
        let own = option(TOA, ip);
        let forged = [254, 8, 1, 2, 9, 9, 9, 9];
        let late = data(ip, b"hello").tcp_options(&forged);
        let bare = segment(ip).tcp_options(&forged);
        let honest = [&own[..], &[1; 8]].concat();
        rows.push(
            self.named("toa: one that a client wrote is overwritten, in every segment", TOA)
                .client(syn(ip).tcp_options(&forged))
                .backend_gets(self.there(syn(ip).tcp_options(&honest)))
                .client(bare.clone())
                .backend_gets(self.there(bare.tcp_options(&[1; 8])))
                .client(late.clone())
                .backend_gets(self.there(late.tcp_options(&honest)))
                .made(1),
        );
        rows
    }

    /// SYN, its answer and the ACK that brings the header.
    fn with_proxy(self, name: &'static str, how: ClientAddress) -> Rule {
        let ip = self.ip;
        self.named(name, how)
            .client(syn(ip))
            .backend_gets(self.there(syn(ip)))
            .backend(self.answer())
            .client_gets(self.home(self.answer()))
            .client(segment(ip))
            .backend_gets(self.there(segment(ip).payload(&header(how, ip, true))))
            .made(1)
    }

    fn proxy(self) -> Vec<Rule> {
        let rows = [V1, V2].map(|how| {
            let (ip, bytes) = (self.ip, header(how, self.ip, true));
            let length = u32::try_from(bytes.len()).unwrap();
            let hello = data(ip, b"hello");
            let first = self.there(hello.clone().payload(&[&bytes[..], b"hello"].concat()));
            let ack = |number| backend_ack(ip.backend(), self.known()).numbers(501, number);
            let shifted = self.there(hello.clone().numbers(1001 + length, 501));
            let claim = data(ip, b"PROXY TCP4 9.9.9.9 9.9.9.9 9 9\r\n");
            let early = syn(ip).payload(b"early");
            [
                self.with_proxy(
                    "proxy: the header comes once, before the client's data, whatever is lost",
                    how,
                )
                .client(hello.clone())
                .backend_gets(first)
                .backend(ack(1001 + length))
                .client_gets(self.home(ack(1001)))
                .client(hello.clone())
                .backend_gets(shifted)
                .backend(ack(1006 + length))
                .client_gets(self.home(ack(1006))),
                self.with_proxy("proxy: a client's bytes are never taken for a header", how)
                    .backend(ack(1001 + length))
                    .client_gets(self.home(ack(1001)))
                    .client(claim.clone())
                    .backend_gets(self.there(claim.numbers(1001 + length, 501))),
                self.forgotten(how),
                self.named(
                    "proxy: data in a SYN is cut off: it comes again, behind the header",
                    how,
                )
                .client(early.clone())
                .backend_gets(self.there(early.payload(b"")))
                .made(1),
            ]
        });
        rows.concat()
    }

    /// Clients that are themselves balancers: what they say of theirs goes on as it is.
    fn trusted(self) -> Vec<Rule> {
        let ip = self.ip;
        let trusting = |name, how| {
            let named = self.named(name, how);
            Rule { setup: named.setup.clone().trusting(), ..named }
        };
        let streams = [V1, V2].map(|how| {
            let first = data(ip, &[&header(how, ip, true)[..], b"hello"].concat());
            let name = "proxy: a trusted client's own header goes on, and none is added";
            trusting(name, how)
                .client(syn(ip))
                .backend_gets(self.there(syn(ip)))
                .backend(self.answer())
                .client_gets(self.home(self.answer()))
                .client(segment(ip))
                .backend_gets(self.there(segment(ip)))
                .client(first.clone())
                .backend_gets(self.there(first))
                .made(1)
        });
        let ask = datagram(ip).payload(&[&header(V2, ip, false)[..], b"question"].concat());
        let name = "proxy: a trusted client's datagrams bring their own header";
        let datagrams = trusting(name, V2).client(ask.clone()).backend_gets(self.there(ask));
        let asks = syn(ip).tcp_options(&option(TOA, ip));
        let name = "toa: a trusted client's own option goes on, and none is added";
        let option = trusting(name, TOA).client(asks.clone()).backend_gets(self.there(asks));
        streams.into_iter().chain([datagrams.made(1), option.made(1)]).collect()
    }

    /// A SYN that overtakes the RST of the connection before it finds that one's record, and
    /// perhaps a backend that has forgotten it already.
    fn forgotten(self, how: ClientAddress) -> Rule {
        let (ip, bytes) = (self.ip, header(how, self.ip, true));
        let length = u32::try_from(bytes.len()).unwrap();
        let hello = data(ip, b"hello");
        let (again, agreed) = (syn(ip).numbers(900, 0), self.answer().numbers(7000, 901));
        let ack = segment(ip).numbers(901, 7001);
        let late = data(ip, b"anew").numbers(901, 7001);
        let acked = |number| backend_ack(ip.backend(), self.known()).numbers(7001, number);
        self.with_proxy("proxy: a stream that begins anew in an old record has the header", how)
            .client(hello.clone())
            .backend_gets(self.there(hello.payload(&[&bytes[..], b"hello"].concat())))
            .backend(backend_ack(ip.backend(), self.known()).numbers(501, 1006 + length))
            .client_gets(self.home(backend_ack(ip.backend(), self.known()).numbers(501, 1006)))
            .client(again.clone())
            .backend_gets(self.there(again))
            .backend(agreed.clone())
            .client_gets(self.home(agreed))
            .client(ack.clone())
            .backend_gets(self.there(ack.payload(&bytes)))
            .backend(acked(901 + length))
            .client_gets(self.home(acked(901)))
            .client(late.clone())
            .backend_gets(self.there(late.numbers(901 + length, 7001)))
    }

    /// Where there is no room, and where it is made.
    fn room(self) -> Vec<Rule> {
        let ip = self.ip;
        let own = option(TOA, ip);
        let most = 40 - own.len();
        let full = data(ip, b"data").tcp_options(&vec![1; most]);
        let with = [&own[..], &vec![1; most]].concat();
        let fuller = data(ip, b"data").tcp_options(&vec![1; most + 4]);
        let length = |payload| data(ip, &bytes(payload - ip.header() - 20));
        let (fits, big) = (length(1500 - own.len()), length(1501 - own.len()));
        let name = "toa: left out where it does not fit";
        let mut rows = vec![
            self.with_toa(name, TOA)
                .case("options that just fit")
                .client(full.clone())
                .backend_gets(self.there(full.tcp_options(&with))),
            self.with_toa(name, TOA)
                .case("too many options")
                .client(fuller.clone())
                .backend_gets(self.there(fuller)),
            self.with_toa(name, TOA)
                .case("a segment that just fits")
                .client(fits.clone())
                .backend_gets(self.there(fits.tcp_options(&own))),
            self.with_toa(name, TOA)
                .case("a segment too long")
                .client(big.clone())
                .backend_gets(self.there(big)),
        ];
        for how in [V1, V2] {
            let header = header(how, ip, true);
            let most = 1500 - header.len();
            let fits = length(most);
            let payload = [&header[..], &bytes(most - ip.header() - 20)].concat();
            let name = "proxy: a segment takes the header if it just fits";
            rows.push(
                self.with_proxy(name, how)
                    .client(fits.clone())
                    .backend_gets(self.there(fits.payload(&payload))),
            );
        }
        for (how, taken) in
            [(TOA, own.len()), (V1, header(V1, ip, true).len()), (V2, header(V2, ip, true).len())]
        {
            let mss =
                |value: usize| [&[2, 4][..], &u16::try_from(value).unwrap().to_be_bytes()].concat();
            let options =
                if how == TOA { [&own[..], &MSS_1460].concat() } else { MSS_1460.to_vec() };
            let ask = syn(ip).tcp_options(&MSS_1460);
            let room = "mss: what the backend announces leaves room for what is inserted";
            let least = "mss: a small one keeps something for data";
            for (name, announced) in [(room, 1460), (least, 80)] {
                let lowered = (announced - taken.min(announced)).max(48);
                rows.push(
                    self.named(name, how)
                        .client(ask.clone())
                        .backend_gets(self.there(ask.clone().tcp_options(&options)))
                        .backend(self.answer().tcp_options(&mss(announced)))
                        .client_gets(self.home(self.answer().tcp_options(&mss(lowered))))
                        .made(1),
                );
            }
        }
        rows
    }

    fn datagrams(self) -> Vec<Rule> {
        let ip = self.ip;
        let (ask, header) = (datagram(ip), header(V2, ip, false));
        let with =
            |payload: &[u8]| self.there(datagram(ip).payload(&[&header[..], payload].concat()));
        let answer = super::words::second(
            shunt::dataplane::snapshot::Protocol::Udp,
            ip.backend(),
            self.known(),
        );
        let mut rows = vec![
            self.named("proxy: version 2 is in front of every datagram, not of answers", V2)
                .client(ask.clone())
                .backend_gets(with(b"question"))
                .backend(answer.clone())
                .client_gets(self.home(answer))
                .client(ask.clone().payload(b""))
                .backend_gets(with(b""))
                .made(1),
        ];
        if ip == V4 {
            rows.push(
                self.named("proxy: a datagram's missing checksum stays missing", V2)
                    .client(ask.without_checksum())
                    .backend_gets(with(b"question").without_checksum())
                    .made(1),
            );
        }
        rows
    }

    fn pieces(self) -> Vec<Rule> {
        let ip = self.ip;
        let ask = datagram(ip).payload(&bytes(1600));
        let header = padded(ip);
        let gone = self.there(ask.clone().payload(&[&header[..], &bytes(1600)].concat()));
        let came = cut(&ask.build(), &[800, 400], 7);
        let number = super::pieces::number(self.mode);
        let left = cut(&gone.build(), &[800 + header.len(), 400], number);
        let forward = self.named("proxy: a datagram in pieces has one too, later pieces move", V2);
        let forward = came
            .iter()
            .zip(&left)
            .fold(forward, |row, (came, left)| row.client(came.clone()).backend_gets(left.clone()));
        let hello = data(ip, b"hello").flags_fragment(0).payload(&bytes(500));
        let segments = cut(&hello.build(), &[200], 9);
        let whole = cut(&self.there(hello).build(), &[200], number);
        let bare = self
            .with_toa("toa: a segment in pieces goes without", TOA)
            .client(segments[0].clone())
            .backend_gets(whole[0].clone())
            .client(segments[1].clone())
            .backend_gets(whole[1].clone());
        let mut rows = vec![forward.made(1), bare];
        if ip == V4 {
            // Pushed on by the header, it would lie behind the longest datagram's end.
            let mut last = came[2].clone();
            last[20..22].copy_from_slice(&(65_320u16 >> 3).to_be_bytes());
            seal(&mut last);
            rows.push(
                self.named(
                    "proxy: a piece that would move past the longest datagram is refused",
                    V2,
                )
                .client(came[0].clone())
                .backend_gets(left[0].clone())
                .client(last)
                .dropped(Reason::NoRoom)
                .made(1),
            );
        }
        rows
    }
}
