//! `[service.timeouts]`: what is refused, what arrives, and what a reload makes of it.

use super::*;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a service's timeout of another protocol",
        edit: ("weight = 1", "[service.timeouts]\nudp_s = 5"),
        says: &[
            "shunt.toml:30:9: `udp_s` does nothing here: the service is tcp",
            "   30 | udp_s = 5",
            "      |         ^",
        ],
    },
    Row {
        name: "a service's timeout of no length",
        edit: ("weight = 1", "[service.timeouts]\ntcp_close_s = 0"),
        says: &[
            "shunt.toml:30:15: tcp_close_s 0 is out of range (1 to 2678400)",
            "   30 | tcp_close_s = 0",
            "      |               ^",
        ],
    },
];

#[test]
fn a_services_timeouts_are_its_own_and_the_others_those_of_all() {
    let own = "[service.timeouts]\ntcp_established_s = 30\ntcp_time_wait_s = 120\n";
    let common = "[timeouts]\ntcp_fin_wait_s = 7\n[dpdk]";
    let text = BASE.replace("[dpdk]", common).replacen("weight = 1", own, 1);
    let plan = read(&text).unwrap().plan;
    let [web, dns] = plan.services.as_slice() else { panic!("two services") };
    let own = web.own_timeouts(&plan.timeouts).unwrap();
    let expected = Timeouts { tcp_established_s: 30, tcp_fin_wait_s: 7, ..Timeouts::default() };
    assert_eq!(own, expected);
    assert_eq!(dns.own_timeouts(&plan.timeouts), None);
    let plan = read(&BASE.replacen("weight = 1", "[service.timeouts]\ntcp_close_s = 10", 1));
    let plan = plan.unwrap().plan;
    assert_eq!(plan.services[0].own_timeouts(&plan.timeouts), None, "nothing differs");
}
