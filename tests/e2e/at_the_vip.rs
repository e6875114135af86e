//! Checks that ask the VIP at one backend: what one at the backend's own address does not see.

use lab::config::Service;
use lab::network::{LAN, VIP, VIP6, backend_address6};
use lab::{Balancer, programs, wait};

use crate::harness::{Rig, web};
use crate::health::{PATIENCE, table, wait_for_state_of};

fn checks(target: &str) -> toml::Table {
    table(&format!(
        "[health]\ntarget = \"{target}\"\n[[check]]\nkind = \"http\"\nbody = \"backend-\"\ninterval_ms = 300\n\
         fast_interval_ms = 100\ntimeout_ms = 500\nfall = 2\n"
    ))
}

fn wait_until_asked(balancer: &Balancer<'_>) {
    let passed = || {
        let services = balancer.shunt_json("services")?.to_string();
        Ok(services.matches("\"last\":\"passed\"").count() == 2)
    };
    wait::until_true("both backends to have passed", PATIENCE, passed).unwrap();
}

fn a_backend_that_has_lost_the_vip_is_down_for_who_asks_there(mode: &str, local_out: bool) {
    let rig = Rig::new(1, 2);
    for backend in &rig.network.backends {
        rig.network.answer_past_the_balancer(backend).unwrap();
    }
    let far_end =
        |host| programs::decap(&rig.network, &rig.binaries, host, LAN, &["ipip"]).unwrap();
    let tunnels = rig.network.backends.iter().filter(|_| mode == "tunnel");
    let _far_ends: Vec<_> = tunnels.map(far_end).collect();
    let host = &rig.network.balancer;
    let rules = || ["-4", "-6"].map(|family| host.ip(&format!("{family} rule")).unwrap());
    let before = rules();
    let mut config = rig.web_config(2, "rr", &[(1, 1), (2, 1)]);
    config.shunt.local_out = local_out.then_some(true);
    config.set_mode("web", mode, None).unwrap();
    config.service[0].more = checks("vip");
    let mut balancer = rig.start(config);
    wait_until_asked(&balancer);
    let asked = balancer.shunt_json("services").unwrap().to_string();
    assert!(asked.contains(&format!("\"target\":\"{VIP}:80\"")), "{asked}");
    wait_for_state_of(&balancer, web(2), "up");

    rig.network.backends[0].ip(&format!("addr del {VIP}/32 dev lo")).unwrap();
    wait_for_state_of(&balancer, web(1), "down");
    wait_for_state_of(&balancer, web(2), "up");
    // At its own address it is as well as ever.
    let mut config = balancer.config.clone();
    config.service[0].more = checks("backend");
    balancer.reload(config).unwrap();
    wait_for_state_of(&balancer, web(1), "up");
    let mut config = balancer.config.clone();
    config.service[0].more = checks("vip");
    balancer.reload(config).unwrap();
    wait_for_state_of(&balancer, web(1), "down");
    rig.network.backends[0].carry_vip(VIP).unwrap();
    wait_for_state_of(&balancer, web(1), "up");
    balancer.stop().unwrap();
    assert_eq!(rules(), before, "nothing is left");
}

#[test]
fn in_dr_a_backend_that_has_lost_the_vip_is_down_for_who_asks_there() {
    a_backend_that_has_lost_the_vip_is_down_for_who_asks_there("dr", false);
}

#[test]
fn behind_a_tunnel_a_backend_that_has_lost_the_vip_is_down_for_who_asks_there() {
    a_backend_that_has_lost_the_vip_is_down_for_who_asks_there("tunnel", false);
}

#[test]
fn beside_the_boxs_own_programs_a_backend_that_has_lost_the_vip_is_down_for_who_asks_there() {
    a_backend_that_has_lost_the_vip_is_down_for_who_asks_there("dr", true);
}

/// Somebody else's rule is in the way of one family: the other's checks are none of its business.
#[test]
fn a_vip_that_cannot_be_asked_fails_its_own_checks_and_no_others() {
    let rig = Rig::new(1, 2);
    for backend in &rig.network.backends {
        rig.network.answer_past_the_balancer(backend).unwrap();
    }
    rig.network.balancer.ip("-6 rule add pref 0 fwmark 7 lookup main").unwrap();
    let mut config = rig.web_config(2, "rr", &[(1, 1), (2, 1)]);
    config.set_mode("web", "dr", None).unwrap();
    let mut six = Service::new("six", "tcp", (VIP6, 80).into(), &[])
        .to((backend_address6(1), 80))
        .in_mode("dr", None);
    config.service[0].more = checks("vip");
    six.more = checks("vip");
    config.service.push(six);
    let mut balancer = rig.start(config);
    wait_until_asked(&balancer);
    let is_refused = || {
        let services = balancer.shunt_json("services")?.to_string();
        Ok(services.contains(&format!("not run: no way out to {VIP6}")))
    };
    wait::until_true("checks of the other VIP to be refused", PATIENCE, is_refused).unwrap();
    wait_for_state_of(&balancer, web(1), "up");
    balancer.stop().unwrap();
}
