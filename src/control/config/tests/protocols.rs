//! One service of several protocols: how it is written, and what then has a meaning.

use super::*;
use crate::dataplane::snapshot::Place;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a protocol nobody balances",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nmore_addresses = [\"quic 198.51.100.10:80\"]",
        ),
        says: &[
            "shunt.toml:25:19: unknown protocol `quic` in `quic 198.51.100.10:80`; supported: tcp, udp, sctp",
            "   25 | more_addresses = [\"quic 198.51.100.10:80\"]",
            "      |                   ^^^^^^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a protocol where the service's own has a key",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"tcp 198.51.100.10:80\"",
        ),
        says: &[
            "shunt.toml:24:11: VIP `tcp 198.51.100.10:80` is not an address and port",
            "   24 | address = \"tcp 198.51.100.10:80\"",
            "      |           ^^^^^^^^^^^^^^^^^^^^^^",
            "      help: for example 192.0.2.10:80 or [2001:db8::10]:80; names are not resolved",
        ],
    },
    Row {
        name: "a protocol and no address",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nmore_addresses = [\"udp 198.51.100.10\"]",
        ),
        says: &[
            "shunt.toml:25:19: VIP 198.51.100.10 has no port",
            "   25 | more_addresses = [\"udp 198.51.100.10\"]",
            "      |                   ^^^^^^^^^^^^^^^^^^^",
            "      help: for example 198.51.100.10:80",
        ],
    },
    Row {
        name: "the same place twice, once with its protocol",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nmore_addresses = [\"udp 198.51.100.10:80\", \"tcp 198.51.100.10:80\"]",
        ),
        says: &[
            "shunt.toml:25:43: tcp 198.51.100.10:80 is listed twice",
            "   25 | more_addresses = [\"udp 198.51.100.10:80\", \"tcp 198.51.100.10:80\"]",
            "      |                                           ^^^^^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "another service's place by its protocol",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nmore_addresses = [\"udp 198.51.100.10:53\"]",
        ),
        says: &[
            "shunt.toml:35:11: udp 198.51.100.10:53 is the address of service `web` too",
            "   35 | address = \"198.51.100.10:53\"",
            "      |           ^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "what none of the protocols has",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nmore_addresses = [\"sctp 198.51.100.10:80\"]\none_packet = true\ntimeouts.udp_s = 5",
        ),
        says: &[
            "shunt.toml:26:14: `one_packet` is for udp: a packet of tcp is not alone",
            "   26 | one_packet = true",
            "      |              ^^^^",
            "shunt.toml:27:18: `udp_s` does nothing here: the service is tcp and sctp",
            "   27 | timeouts.udp_s = 5",
            "      |                  ^",
        ],
    },
    Row {
        name: "what the one and the other protocol refuse",
        edit: (
            "\"udp\"\naddress = \"198.51.100.10:53\"",
            "\"udp\"\naddress = \"198.51.100.10:53\"\nmore_addresses = [\"sctp 198.51.100.10:53\"]\nclient_address = \"toa\"\nsyn_cookies = \"always\"",
        ),
        says: &[
            "shunt.toml:36:18: `toa` is not for udp: it is an option of TCP",
            "   36 | client_address = \"toa\"",
            "      |                  ^^^^^",
            "shunt.toml:37:15: `syn_cookies` is for tcp: there is no SYN in udp",
            "   37 | syn_cookies = \"always\"",
            "      |               ^^^^^^^^",
        ],
    },
];

#[test]
fn a_key_has_a_meaning_if_one_of_the_protocols_gives_it_one() {
    for (own, other) in [("tcp", "udp"), ("udp", "tcp")] {
        let text = BASE.replacen(
            "protocol = \"tcp\"\naddress = \"198.51.100.10:80\"",
            &format!(
                "protocol = \"{own}\"\naddress = \"198.51.100.10:80\"\n\
                 more_addresses = [\"{other} 198.51.100.10:80\", \"198.51.100.11:80\", \
                 \"{own} 198.51.100.12:80\"]\none_packet = true\nclient_address = \"toa\"\n\
                 syn_cookies = \"always\"\nudp_reflection_ports = [123]\nscheduler = \"qh\"\n\
                 timeouts.udp_s = 5\ntimeouts.tcp_close_s = 5"
            ),
            1,
        );
        let text = text.replacen("weight = 1", "quic_server_id = \"0a01\"", 1);
        let read = read(&text).unwrap_or_else(|errors| panic!("{own}: {errors}"));
        let service = &read.plan.services[0];
        let places: Vec<_> = service.places().map(|place| place.to_string()).collect();
        let expected = [
            format!("{own} 198.51.100.10:80"),
            format!("{own} 198.51.100.11:80"),
            format!("{own} 198.51.100.12:80"),
            format!("{other} 198.51.100.10:80"),
        ];
        assert_eq!(places, expected);
        assert!(service.speaks(Protocol::Tcp) && service.speaks(Protocol::Udp));
        assert!(!service.speaks(Protocol::Sctp));
        let others: Vec<Place> = service.other_protocols.clone();
        assert_eq!((others.len(), service.more_addresses.len()), (1, 2));
        assert_eq!(read.plan.reflection_ports(service), [123]);
    }
}
