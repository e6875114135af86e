//! What is wrong with ports, their addresses and routes.

use super::Row;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a port name used twice",
        edit: (
            "name = \"lan\"",
            "name = \"wan\"\ntap = \"other\"",
        ),
        says: &[
            "shunt.toml:17:8: port name `wan` is used twice",
            "   17 | name = \"wan\"",
            "      |        ^^^^^",
        ],
    },
    Row {
        name: "a port name that is none",
        edit: (
            "name = \"lan\"",
            "name = \"l an\"",
        ),
        says: &[
            "shunt.toml:17:8: port name `l an` is not a name",
            "   17 | name = \"l an\"",
            "      |        ^^^^^^",
            "      help: use letters, digits, `.`, `_` and `-`",
        ],
    },
    Row {
        name: "a device used twice",
        edit: (
            "net_tap0,iface=x",
            "3B:00.0,opt=1",
        ),
        says: &[
            "shunt.toml:18:10: device `0000:3b:00.0` is used by two ports",
            "   18 | device = \"3B:00.0,opt=1\"",
            "      |          ^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a device that is none",
        edit: (
            "net_tap0,iface=x",
            "",
        ),
        says: &[
            "shunt.toml:18:10: device `` is not a device",
            "   18 | device = \"\"",
            "      |          ^^",
            "      help: a PCI address (0000:3b:00.0) or a virtual device (net_tap0,iface=x)",
        ],
    },
    Row {
        name: "a tap used twice",
        edit: (
            "name = \"lan\"",
            "name = \"lan\"\ntap = \"wan\"",
        ),
        says: &[
            "shunt.toml:18:7: tap `wan` is used twice",
            "   18 | tap = \"wan\"",
            "      |       ^^^^^",
        ],
    },
    Row {
        name: "a tap name beyond 15 characters",
        edit: (
            "name = \"lan\"",
            "name = \"lan\"\ntap = \"abcdefghijklmnop\"",
        ),
        says: &[
            "shunt.toml:18:7: tap `abcdefghijklmnop` is too long: 16 characters, the limit \
             is 15",
            "   18 | tap = \"abcdefghijklmnop\"",
            "      |       ^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a port name too long for the TAP it names",
        edit: (
            "name = \"lan\"",
            "name = \"abcdefghijklmnop\"",
        ),
        says: &[
            "shunt.toml:17:8: port name `abcdefghijklmnop` is too long for its TAP interface",
            "   17 | name = \"abcdefghijklmnop\"",
            "      |        ^^^^^^^^^^^^^^^^^^",
            "      help: set `tap` to a name of at most 15 characters",
        ],
    },
    Row {
        name: "a tap name that is none",
        edit: (
            "name = \"lan\"",
            "name = \"lan\"\ntap = \"..\"",
        ),
        says: &[
            "shunt.toml:18:7: tap `..` is not a name",
            "   18 | tap = \"..\"",
            "      |       ^^^^",
            "      help: use letters, digits, `.`, `_` and `-`",
        ],
    },
    Row {
        name: "a port address without a prefix length",
        edit: (
            "10.44.0.1/24",
            "10.44.0.1",
        ),
        says: &[
            "shunt.toml:19:14: port address `10.44.0.1` is not an address with a prefix \
             length",
            "   19 | addresses = [\"10.44.0.1\"]",
            "      |              ^^^^^^^^^^^",
            "      help: for example 192.0.2.1/24 or 2001:db8::1/64",
        ],
    },
    Row {
        name: "a port address with prefix length 33",
        edit: (
            "10.44.0.1/24",
            "10.44.0.1/33",
        ),
        says: &[
            "shunt.toml:19:14: port address `10.44.0.1/33` is not an address with a \
             prefix length",
            "   19 | addresses = [\"10.44.0.1/33\"]",
            "      |              ^^^^^^^^^^^^^^",
            "      help: for example 192.0.2.1/24 or 2001:db8::1/64",
        ],
    },
    Row {
        name: "a port address with prefix length 0",
        edit: (
            "10.44.0.1/24",
            "10.44.0.1/0",
        ),
        says: &[
            "shunt.toml:19:14: a port address needs a prefix length of 1 to 32",
            "   19 | addresses = [\"10.44.0.1/0\"]",
            "      |              ^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a port address that is multicast",
        edit: (
            "10.44.0.1/24",
            "224.0.0.1/24",
        ),
        says: &[
            "shunt.toml:19:14: port address 224.0.0.1 is a multicast address; a unicast \
             address was expected",
            "   19 | addresses = [\"224.0.0.1/24\"]",
            "      |              ^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a port address used twice",
        edit: (
            "10.44.0.1/24",
            "192.0.2.1/16",
        ),
        says: &[
            "shunt.toml:19:14: port address 192.0.2.1 is used twice",
            "   19 | addresses = [\"192.0.2.1/16\"]",
            "      |              ^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "an mtu too small",
        edit: (
            "name = \"lan\"",
            "name = \"lan\"\nmtu = 575",
        ),
        says: &[
            "shunt.toml:18:7: mtu 575 is out of range (576 to 9216)",
            "   18 | mtu = 575",
            "      |       ^^^",
        ],
    },
    Row {
        name: "an mtu too large",
        edit: (
            "name = \"lan\"",
            "name = \"lan\"\nmtu = 9217",
        ),
        says: &[
            "shunt.toml:18:7: mtu 9217 is out of range (576 to 9216)",
            "   18 | mtu = 9217",
            "      |       ^^^^",
        ],
    },
    Row {
        name: "descriptors that are no power of two",
        edit: (
            "name = \"lan\"",
            "name = \"lan\"\nrx_descriptors = 1000",
        ),
        says: &[
            "shunt.toml:18:18: rx_descriptors 1000 is not a power of two",
            "   18 | rx_descriptors = 1000",
            "      |                  ^^^^",
            "      help: 512 or 1024",
        ],
    },
    Row {
        name: "descriptors out of range",
        edit: (
            "name = \"lan\"",
            "name = \"lan\"\ntx_descriptors = 8192",
        ),
        says: &[
            "shunt.toml:18:18: tx_descriptors 8192 is out of range (64 to 4096)",
            "   18 | tx_descriptors = 8192",
            "      |                  ^^^^",
        ],
    },
    Row {
        name: "a route with bits beyond its prefix",
        edit: (
            "\"0.0.0.0/0\"",
            "\"10.1.2.3/8\"",
        ),
        says: &[
            "shunt.toml:13:6: route destination 10.1.2.3/8 has bits beyond its prefix",
            "   13 | to = \"10.1.2.3/8\"",
            "      |      ^^^^^^^^^^^^",
            "      help: the network is 10.0.0.0/8",
        ],
    },
    Row {
        name: "a route given twice",
        edit: (
            "via = \"192.0.2.254\"",
            "via = \"192.0.2.254\"\n[[port.route]]\nto = \"0.0.0.0/0\"\nvia = \"192.0.2.253\"",
        ),
        says: &[
            "shunt.toml:16:6: there is a route to 0.0.0.0/0 already",
            "   16 | to = \"0.0.0.0/0\"",
            "      |      ^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a gateway outside of the port's networks",
        edit: (
            "192.0.2.254",
            "192.0.3.254",
        ),
        says: &[
            "shunt.toml:14:7: gateway 192.0.3.254 is in none of this port's networks",
            "   14 | via = \"192.0.3.254\"",
            "      |       ^^^^^^^^^^^^^",
            "      help: give the port an address in its network",
        ],
    },
    Row {
        name: "a gateway that is the port itself",
        edit: (
            "192.0.2.254",
            "192.0.2.1",
        ),
        says: &[
            "shunt.toml:14:7: gateway 192.0.2.1 is this port's own address",
            "   14 | via = \"192.0.2.1\"",
            "      |       ^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a gateway of the other family",
        edit: (
            "192.0.2.254",
            "fe80::1",
        ),
        says: &[
            "shunt.toml:14:7: gateway fe80::1 is IPv6, and the route's destination is IPv4",
            "   14 | via = \"fe80::1\"",
            "      |       ^^^^^^^^^",
        ],
    },
    Row {
        name: "a port address that is its network's network address",
        edit: (
            "192.0.2.1/24",
            "192.0.2.0/24",
        ),
        says: &[
            "shunt.toml:10:14: port address 192.0.2.0/24 is the network address of its network",
            "   10 | addresses = [\"192.0.2.0/24\"]",
            "      |              ^^^^^^^^^^^^^^",
            "      help: an address between the first and the last was expected",
        ],
    },
    Row {
        name: "a port address that is its network's broadcast address",
        edit: (
            "192.0.2.1/24",
            "192.0.2.255/24",
        ),
        says: &[
            "shunt.toml:10:14: port address 192.0.2.255/24 is the broadcast address of its network",
            "   10 | addresses = [\"192.0.2.255/24\"]",
            "      |              ^^^^^^^^^^^^^^^^",
            "      help: an address between the first and the last was expected",
        ],
    },
    Row {
        name: "a gateway that is its network's network address",
        edit: (
            "192.0.2.254",
            "192.0.2.0",
        ),
        says: &[
            "shunt.toml:14:7: gateway 192.0.2.0 is the network address of this port's network",
            "   14 | via = \"192.0.2.0\"",
            "      |       ^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a gateway that is its network's broadcast address",
        edit: (
            "192.0.2.254",
            "192.0.2.255",
        ),
        says: &[
            "shunt.toml:14:7: gateway 192.0.2.255 is the broadcast address of this port's network",
            "   14 | via = \"192.0.2.255\"",
            "      |       ^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a tap named lo",
        edit: (
            "name = \"lan\"",
            "name = \"lan\"\ntap = \"lo\"",
        ),
        says: &[
            "shunt.toml:18:7: tap `lo` is a name the kernel keeps for itself",
            "   18 | tap = \"lo\"",
            "      |       ^^^^",
            "      help: for example `tap = \"wan0\"`",
        ],
    },
    Row {
        name: "a tap named all",
        edit: (
            "name = \"lan\"",
            "name = \"lan\"\ntap = \"all\"",
        ),
        says: &[
            "shunt.toml:18:7: tap `all` is a name the kernel keeps for itself",
            "   18 | tap = \"all\"",
            "      |       ^^^^^",
            "      help: for example `tap = \"wan0\"`",
        ],
    },
    Row {
        name: "a tap named default",
        edit: (
            "name = \"lan\"",
            "name = \"lan\"\ntap = \"default\"",
        ),
        says: &[
            "shunt.toml:18:7: tap `default` is a name the kernel keeps for itself",
            "   18 | tap = \"default\"",
            "      |       ^^^^^^^^^",
            "      help: for example `tap = \"wan0\"`",
        ],
    },
    Row {
        name: "a kernel interface as device",
        edit: (
            "net_tap0,iface=x",
            "eth1",
        ),
        says: &[
            "shunt.toml:18:10: device `eth1` is neither a PCI address nor a virtual device",
            "   18 | device = \"eth1\"",
            "      |          ^^^^^^",
            "      help: for an interface of the kernel, write `net_af_packet0,iface=eth1`",
        ],
    },
    Row {
        name: "a device that is half a PCI address",
        edit: (
            "net_tap0,iface=x",
            "3b:00",
        ),
        says: &[
            "shunt.toml:18:10: device `3b:00` is neither a PCI address nor a virtual device",
            "   18 | device = \"3b:00\"",
            "      |          ^^^^^^^",
            "      help: a PCI address (0000:3b:00.0) or a virtual device (net_af_packet0,iface=eth1)",
        ],
    },
    Row {
        name: "a device that is no network device",
        edit: (
            "net_tap0,iface=x",
            "crypto_null0,x=1",
        ),
        says: &[
            "shunt.toml:18:10: device `crypto_null0` is neither a PCI address nor a virtual device",
            "   18 | device = \"crypto_null0,x=1\"",
            "      |          ^^^^^^^^^^^^^^^^^^",
            "      help: a PCI address (0000:3b:00.0) or a virtual device (net_af_packet0,iface=eth1)",
        ],
    },
];
