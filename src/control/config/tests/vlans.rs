//! Ports of VLAN tags: what is wrong with them, and which ids they get.

use super::*;
use crate::ids::PortId;
use crate::wire::vlan::{Tags, Vid};

const LAN: &str = "device = \"net_tap0,iface=x\"\n";

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a device and a port it is on",
        edit: (LAN, "device = \"net_tap0,iface=x\"\non = \"wan\"\n"),
        says: &[
            "shunt.toml:19:6: port `lan` has a `device`, so it cannot have `on`",
            "   19 | on = \"wan\"",
            "      |      ^^^^^",
            "      help: make a [[port]] of its own for frames with a VLAN tag",
        ],
    },
    Row {
        name: "a device and a VLAN",
        edit: (LAN, "device = \"net_tap0,iface=x\"\nvlan = 5\n"),
        says: &[
            "shunt.toml:19:8: port `lan` has a `device`, so it cannot have `vlan`",
            "   19 | vlan = 5",
            "      |        ^",
            "      help: make a [[port]] of its own for frames with a VLAN tag",
        ],
    },
    Row {
        name: "a port on another without a VLAN",
        edit: (LAN, "on = \"wan\"\n"),
        says: &[
            "shunt.toml:17:8: port `lan` has `on`, but no `vlan`",
            "   17 | name = \"lan\"",
            "      |        ^^^^^",
            "      help: `vlan = 100`, or `vlan = [200, 100]`: the outer tag's, then the inner's",
        ],
    },
    Row {
        name: "a VLAN on no port",
        edit: (LAN, "vlan = 100\n"),
        says: &[
            "shunt.toml:17:8: port `lan` has `vlan`, but no `on`",
            "   17 | name = \"lan\"",
            "      |        ^^^^^",
            "      help: `on` names the port whose device receives these frames",
        ],
    },
    Row {
        name: "a VLAN on a port that is not there",
        edit: (LAN, "on = \"wann\"\nvlan = 100\n"),
        says: &[
            "shunt.toml:18:6: there is no port `wann` with a `device`",
            "   18 | on = \"wann\"",
            "      |      ^^^^^^",
            "      help: did you mean `wan`?",
        ],
    },
    Row {
        name: "a VLAN on itself",
        edit: (LAN, "on = \"lan\"\nvlan = 100\n"),
        says: &[
            "shunt.toml:18:6: port `lan` is on another port itself",
            "   18 | on = \"lan\"",
            "      |      ^^^^^",
            "      help: name the port with the device, and both tags: `vlan = [200, 100]`",
        ],
    },
    Row {
        name: "VID 0, which is no VLAN",
        edit: (LAN, "on = \"wan\"\nvlan = 0\n"),
        says: &[
            "shunt.toml:19:8: vlan 0 is out of range (1 to 4094)",
            "   19 | vlan = 0",
            "      |        ^",
        ],
    },
    Row {
        name: "an inner VID that is reserved, and an outer one out of range",
        edit: (LAN, "on = \"wan\"\nvlan = [-1, 4095]\n"),
        says: &[
            "shunt.toml:19:8: vlan -1 is out of range (1 to 4094)",
            "   19 | vlan = [-1, 4095]",
            "      |        ^^^^^^^^^^",
            "shunt.toml:19:8: vlan 4095 is out of range (1 to 4094)",
            "   19 | vlan = [-1, 4095]",
            "      |        ^^^^^^^^^^",
        ],
    },
    Row {
        name: "three tags",
        edit: (LAN, "on = \"wan\"\nvlan = [1, 2, 3]\n"),
        says: &[
            "shunt.toml:19:8: vlan is not one number or two",
            "   19 | vlan = [1, 2, 3]",
            "      |        ^^^^^^^^^",
            "      help: `vlan = 100`, or `vlan = [200, 100]`: the outer tag's, then the inner's",
        ],
    },
    Row {
        name: "a VLAN by name",
        edit: (LAN, "on = \"wan\"\nvlan = \"office\"\n"),
        says: &[
            "shunt.toml:19:8: vlan is not one number or two",
            "   19 | vlan = \"office\"",
            "      |        ^^^^^^^^",
            "      help: `vlan = 100`, or `vlan = [200, 100]`: the outer tag's, then the inner's",
        ],
    },
    Row {
        name: "the same VLAN twice on a port",
        edit: (LAN, "on = \"wan\"\nvlan = 7\n\
                     [[port]]\nname = \"dmz\"\non = \"wan\"\nvlan = 7\n"),
        says: &[
            "shunt.toml:23:8: vlan 7 on `wan` is port `lan` already",
            "   23 | vlan = 7",
            "      |        ^",
        ],
    },
    Row {
        name: "a longer MTU than the device's",
        edit: (LAN, "on = \"wan\"\nvlan = 7\nmtu = 1501\n"),
        says: &[
            "shunt.toml:20:7: mtu 1501 is more than that of port `wan`, 1500",
            "   20 | mtu = 1501",
            "      |       ^^^^",
        ],
    },
    Row {
        name: "descriptors of a port without queues",
        edit: (LAN, "on = \"wan\"\nvlan = 7\nrx_descriptors = 512\n"),
        says: &[
            "shunt.toml:20:18: rx_descriptors belongs to the port with the `device`",
            "   20 | rx_descriptors = 512",
            "      |                  ^^^",
        ],
    },
];

const THREE: &str = "[[port]]\nname = \"first\"\non = \"wan\"\nvlan = 100\n\
    addresses = [\"10.1.0.1/24\"]\n\
    [[port]]\nname = \"wan\"\ndevice = \"net_null0\"\nmtu = 1400\naddresses = [\"10.2.0.1/24\"]\n\
    [[port]]\nname = \"both\"\non = \"lan\"\nvlan = [200, 100]\nmtu = 1000\n\
    addresses = [\"10.3.0.1/24\"]\n\
    [[port]]\nname = \"lan\"\ndevice = \"net_null1\"\naddresses = [\"10.4.0.1/24\"]\n";

fn three() -> Plan {
    let reading = read(&format!("[shunt]\nworkers = [1]\n{THREE}")).unwrap();
    assert_eq!(reading.warnings, Vec::<String>::new());
    reading.plan
}

#[test]
fn ports_with_a_device_have_the_first_ids_wherever_they_stand() {
    let plan = three();
    let names: Vec<&str> = plan.ports.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names, ["wan", "lan", "first", "both"]);
    let vid = |number| Vid::new(number).unwrap();
    let one = Tags { outer: vid(100), inner: None };
    let two = Tags { outer: vid(200), inner: Some(vid(100)) };
    assert_eq!(plan.ports[2].link, Link::Tagged { on: PortId(0), tags: one });
    assert_eq!(plan.ports[3].link, Link::Tagged { on: PortId(1), tags: two });
    let mtus: Vec<u16> = plan.ports.iter().map(|port| port.mtu).collect();
    assert_eq!(
        mtus,
        [1400, 1500, 1400, 1000],
        "a tagged port has its device's, if it says nothing"
    );
    let lines: Vec<usize> = plan.ports.iter().map(|port| port.line.0).collect();
    assert_eq!(lines[..2], [10, 21], "of the device, for messages");
}

/// 200 and [200, 100] are two VLANs, and so are the same ones on two devices.
#[test]
fn only_the_same_tags_on_the_same_device_are_the_same() {
    let port = |name: &str, rest: &str| format!("[[port]]\nname = \"{name}\"\n{rest}\n");
    let text = [
        "[shunt]\nworkers = [1]\n".to_owned(),
        port("a", "device = \"net_null0\""),
        port("b", "device = \"net_null1\""),
        port("c", "on = \"a\"\nvlan = 200"),
        port("d", "on = \"a\"\nvlan = [200, 100]"),
        port("e", "on = \"a\"\nvlan = [200, 200]"),
        port("f", "on = \"b\"\nvlan = 200"),
    ];
    assert_eq!(read(&text.concat()).unwrap().plan.ports.len(), 6);
}

#[test]
fn more_devices_than_the_limit_are_refused() {
    let ports = |count: usize| {
        (0..count).fold("[shunt]\nworkers = [1]\n".to_owned(), |text, port| {
            text + &format!("[[port]]\nname = \"p{port}\"\ndevice = \"net_null{port}\"\n")
        })
    };
    assert_eq!(read(&ports(limits::DEVICES)).unwrap().plan.ports.len(), limits::DEVICES);
    let said = refusal(&ports(limits::DEVICES + 1));
    assert!(said.starts_with("shunt.toml:51:1: more than 16 ports with a device\n"), "{said}");
}

/// Queues are the devices': tagged ports need no buffers. And a device all of whose traffic has
/// tags needs no address.
#[test]
fn tagged_ports_take_no_buffers() {
    let text = |count: usize| {
        let device = "[shunt]\nworkers = [1]\n[dpdk]\npacket_buffers = 2304\n\
                      [[port]]\nname = \"a\"\ndevice = \"net_null0\"\n";
        (1..=count).fold(device.to_owned(), |text, vlan| {
            text + &format!(
                "[[port]]\nname = \"v{vlan}\"\non = \"a\"\nvlan = {vlan}\n\
                 addresses = [\"10.1.{vlan}.1/24\"]\n"
            )
        })
    };
    assert_eq!(read(&text(40)).unwrap().warnings, Vec::<String>::new());
}
