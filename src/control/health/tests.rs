//! What health makes of verdicts: who serves, who is set aside, and what a reload leaves as it was.

use std::path::Path;

use super::check::{Check, Target};
use super::follow::asked;
use super::*;
use crate::control::config::{Machine, parse_for};
use crate::control::effective::{Held, effective};
use crate::control::punt::aim::Aim;
use crate::dataplane::snapshot::{Encapsulation, Mode};
use crate::ids::{BackendId, ServiceId};
use crate::stats::collect::{BackendEntry, Names, ServiceEntry, Sources};
use crate::stats::counters::WorkerStats;
use crate::stats::slow::StaticFacts;

/// A service of three backends and perhaps a sorry one, with these lines in `[service.health]`.
fn plan(health: &str, with_sorry: bool) -> Plan {
    let base = include_str!("../config/tests/base.toml").split_once("[[service]]").unwrap().0;
    let mut text = format!(
        "{base}[[service]]\nname = \"web\"\nprotocol = \"tcp\"\naddress = \"198.51.100.10:80\"\n\
         local_addresses = [\"10.44.0.2\"]\n[service.health]\n{health}\n\
         [[service.check]]\nkind = \"tcp\"\ninterval_ms = 86400000\n"
    );
    for (host, weight) in [(1, 1), (2, 2), (3, 3)] {
        let backend = format!("address = \"10.44.0.1{host}:80\"\nweight = {weight}\n");
        text = text + "[[service.backend]]\n" + &backend;
    }
    if with_sorry {
        text += "[[service.backend]]\naddress = \"10.44.0.19:80\"\nsorry = true\n";
    }
    let machine = Machine::with_cpus(4);
    parse_for(&text, Path::new("shunt.toml"), &machine).unwrap_or_else(|it| panic!("{it}")).plan
}

fn backend(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 44, 0, 10 + host], 80))
}

/// What is compiled of the service, oldest first: last digit of the address, and weight.
fn compiled(health: &mut Health, plan: &Plan) -> Vec<(u8, u32)> {
    compiled_at(health, plan, &Hands::default(), Instant::now())
}

fn compiled_at(health: &mut Health, plan: &Plan, hands: &Hands, now: Instant) -> Vec<(u8, u32)> {
    let verdicts = health.judge(plan, hands, now);
    let plan = effective(plan, &verdicts, hands).into_owned();
    let host = |address: SocketAddr| match address.ip() {
        std::net::IpAddr::V4(address) => address.octets()[3] - 10,
        std::net::IpAddr::V6(_) => 0,
    };
    plan.services[0].backends.iter().map(|it| (host(it.address), it.weight)).collect()
}

/// As if a check of that backend had said so.
fn say(health: &mut Health, host: u8, is_up: bool, now: Instant) {
    let of = |(_, (_, address)): &(&CheckId, &(ServiceKey, SocketAddr))| *address == backend(host);
    let id = *health.owners.iter().find(of).unwrap().0;
    health.take(&Change { id, is_up }, now);
}

fn health() -> Health {
    Health::new(Arc::default(), Arc::default())
}

#[test]
fn who_is_down_is_taken_out_or_drained_as_the_file_says() {
    for (policy, expected) in
        [("", vec![(1, 1), (3, 3)]), ("on_failure = \"drain\"", vec![(1, 1), (2, 0), (3, 3)])]
    {
        let (mut health, plan) = (health(), plan(policy, false));
        let all = vec![(1, 1), (2, 2), (3, 3)];
        assert_eq!(compiled(&mut health, &plan), all, "all are up at the start");
        say(&mut health, 2, false, Instant::now());
        assert_eq!(compiled(&mut health, &plan), expected, "{policy}");
        say(&mut health, 2, true, Instant::now());
        assert_eq!(compiled(&mut health, &plan), all);
    }
}

/// Who waits for `down` and then for the last connection, before it ends the server, relies on it.
#[test]
fn a_backend_is_shown_down_when_it_gets_nothing_more_not_before() {
    let (mut health, plan) = (health(), plan("", false));
    compiled(&mut health, &plan);
    let key = plan.services[0].key();
    let shown = |health: &Health| health.backend(&key, backend(2)).unwrap().state;
    say(&mut health, 2, false, Instant::now());
    assert_eq!(shown(&health), "up", "it still gets connections");
    assert_eq!(compiled(&mut health, &plan), [(1, 1), (3, 3)]);
    assert_eq!(shown(&health), "down");
}

#[test]
fn a_service_that_starts_down_gets_its_backends_as_they_pass() {
    let (mut health, plan) = (health(), plan("start = \"down\"", false));
    assert_eq!(compiled(&mut health, &plan), []);
    say(&mut health, 3, true, Instant::now());
    assert_eq!(compiled(&mut health, &plan), [(3, 3)]);
}

/// Last digits of addresses, and weights.
type Compiled = &'static [(u8, u32)];

/// keepalived's rule: what is left of the service goes when the sorry backend comes, and the reverse.
#[test]
fn sorry_backends_serve_alone_while_the_quorum_is_lost() {
    let (mut health, plan) = (health(), plan("quorum = 4\nquorum_hysteresis = 1", true));
    let now = Instant::now();
    assert_eq!(compiled(&mut health, &plan), [(1, 1), (2, 2), (3, 3)]);
    // Who changes, and what is compiled then. Lost below 3, back at 5.
    let table: [(u8, bool, Compiled); 5] = [
        (1, false, &[(2, 2), (3, 3)]),
        (2, false, &[(3, 3)]),
        (3, false, &[(9, 1)]),
        (3, true, &[(9, 1)]),
        (2, true, &[(2, 2), (3, 3)]),
    ];
    for (host, is_up, expected) in table {
        say(&mut health, host, is_up, now);
        assert_eq!(compiled(&mut health, &plan), expected, "{host} {is_up}");
    }
}

/// A quorum nobody can reach is lowered to what there is, and shown so.
#[test]
fn the_quorum_in_force_is_shown_beside_the_one_asked_for() {
    // Asked for, in force with backends of weight 1, 2 and 3, and with the first alone.
    for (wanted, of_six, of_one) in [(1, 1, 1), (4, 4, 1), (9, 6, 1)] {
        let (mut health, mut plan) = (health(), plan(&format!("quorum = {wanted}"), true));
        let key = plan.services[0].key();
        compiled(&mut health, &plan);
        let whole = |live, in_force| Some(view::Quorum { whole: true, live, wanted, in_force });
        assert_eq!(health.quorum(&key), whole(6, of_six));
        plan.services[0].backends.retain(|it| it.sorry || it.address == backend(1));
        compiled(&mut health, &plan);
        assert_eq!(health.quorum(&key), whole(1, of_one));
    }
}

#[test]
fn without_sorry_backends_a_lost_quorum_takes_nobody_out() {
    let (mut health, plan) = (health(), plan("quorum = 6", false));
    compiled(&mut health, &plan);
    say(&mut health, 3, false, Instant::now());
    assert_eq!(compiled(&mut health, &plan), [(1, 1), (2, 2)]);
}

#[test]
fn a_backend_drained_by_hand_counts_for_no_quorum() {
    let (mut health, plan) = (health(), plan("quorum = 4", true));
    let mut hands = Hands::default();
    let drained = Held { weight: 0, ends: None };
    hands.set(plan.services[0].key(), backend(3), drained);
    assert_eq!(compiled_at(&mut health, &plan, &hands, Instant::now()), [(9, 1)]);
}

#[test]
fn a_reload_leaves_a_backend_in_the_state_it_has() {
    let (mut health, before) = (health(), plan("", false));
    compiled(&mut health, &before);
    say(&mut health, 2, false, Instant::now());
    let checks: Vec<CheckId> = health.owners.keys().copied().collect();
    let mut after = before.clone();
    after.services[0].backends[0].weight = 5;
    assert_eq!(compiled(&mut health, &after), [(1, 5), (3, 3)]);
    assert!(checks.iter().all(|id| health.owners.contains_key(id)), "the same checks go on");
    // Another check of the same backend begins with what is known.
    after.services[0].checks[0].fall = 9;
    assert_eq!(compiled(&mut health, &after), [(1, 5), (3, 3)]);
    assert!(!checks.iter().any(|id| health.owners.contains_key(id)), "others run");
    // One that leaves is forgotten, and starts anew.
    let gone = after.services[0].backends.remove(1);
    compiled(&mut health, &after);
    assert_eq!(health.owners.len(), 2);
    after.services[0].backends.insert(1, gone);
    assert_eq!(compiled(&mut health, &after), [(1, 5), (2, 2), (3, 3)]);
}

/// Checks by their ports, those of another pace with `'`.
fn checks(plan: &Plan, written: &str) -> Vec<Check> {
    let like = &plan.services[0].checks[0];
    let check = |word: &str| {
        let (port, fall) = word.strip_suffix('\'').map_or((word, like.fall), |port| (port, 9));
        Check { port: port.parse().ok(), fall, ..like.clone() }
    };
    written.split(' ').map(check).collect()
}

/// What is said of checks is what was asked of them, wherever they stand in the file.
#[test]
fn a_reload_leaves_each_check_the_verdict_on_its_own_question() {
    // Before and after, by port; `!` are down, `'` have another pace. And which of those after still run.
    let table = [
        ("a new one goes in front", "81 !82", "!80 81 !82", "81 82"),
        ("a new one goes behind", "81", "81 82", "81"),
        ("a new one beside one that is down must pass first", "!81", "!81 !82", "81"),
        ("the first is taken out", "81 !82", "!82", "82"),
        ("the one that is down is taken out", "!81 82", "82", "82"),
        ("they change places", "!81 82 83", "83 82 !81", "83 82 81"),
        ("one that is down changes its pace", "!81 82", "!81' 82", "82"),
        ("one that is up changes its pace, and its place", "!81 82", "82' !81", "81"),
        ("one that is down asks something else", "!81 82", "!83 82", "82"),
        ("one in two paces, one of them goes", "81 !81'", "!81'", "81'"),
        ("two that are alike", "81 !81", "81 !81 !81", "81 81"),
    ];
    for (name, before, after, goes_on) in table {
        let (mut health, mut plan) = (health(), plan("", false));
        plan.services[0].backends.truncate(1);
        plan.services[0].checks = checks(&plan, &before.replace('!', ""));
        compiled(&mut health, &plan);
        let key = plan.services[0].key();
        let ids = |health: &Health| -> Vec<CheckId> {
            health.wards[&key].patients[&backend(1)].running.iter().map(|it| it.id).collect()
        };
        let old = ids(&health);
        for (id, _) in old.iter().zip(before.split(' ')).filter(|(_, it)| it.starts_with('!')) {
            health.take(&Change { id: *id, is_up: false }, Instant::now());
        }
        plan.services[0].checks = checks(&plan, &after.replace('!', ""));
        compiled(&mut health, &plan);
        let running = &health.wards[&key].patients[&backend(1)].running;
        let mut said = vec![];
        let mut same = vec![];
        for (running, word) in running.iter().zip(after.split(' ')) {
            said.push(
                if running.is_up { "" } else { "!" }.to_owned() + word.trim_start_matches('!'),
            );
            same.extend(old.contains(&running.id).then(|| word.trim_start_matches('!')));
        }
        assert_eq!((said.join(" "), same.join(" ")), (after.into(), goes_on.into()), "{name}");
        assert_eq!(health.owners.len(), ids(&health).len(), "{name}: others have ended");
    }
}

#[test]
fn a_backend_with_checks_of_its_own_must_pass_all_of_them() {
    let (mut health, mut plan) = (health(), plan("", false));
    let check = plan.services[0].checks[0].clone();
    let other = Check { port: Some(81), ..check.clone() };
    plan.services[0].backend_checks.insert(backend(1), vec![check, other]);
    compiled(&mut health, &plan);
    assert_eq!(health.owners.len(), 4);
    say(&mut health, 1, false, Instant::now());
    assert_eq!(compiled(&mut health, &plan), [(2, 2), (3, 3)]);
}

#[test]
fn who_comes_back_starts_slowly_and_weights_keep_their_proportions() {
    let (mut health, plan) = (health(), plan("slow_start_s = 10", false));
    let (start, hands) = (Instant::now(), Hands::default());
    compiled_at(&mut health, &plan, &hands, start);
    say(&mut health, 2, false, start);
    compiled_at(&mut health, &plan, &hands, start);
    say(&mut health, 2, true, start);
    let at = |seconds| start + Duration::from_secs(seconds);
    let compiled = compiled_at(&mut health, &plan, &hands, at(0));
    assert_eq!(compiled, [(1, 100), (2, 18), (3, 300)]);
    assert!(health.tick(at(5)), "there is something to publish");
    assert_eq!(compiled_at(&mut health, &plan, &hands, at(5))[1], (2, 108));
    assert!(health.tick(at(10)), "the end is, too");
    assert_eq!(compiled_at(&mut health, &plan, &hands, at(10)), [(1, 1), (2, 2), (3, 3)]);
    assert!(!health.tick(at(11)));
}

/// A check of a management address, and one that knows no ports, ask where they always ask.
#[test]
fn at_the_vip_the_backend_is_asked_by_what_is_sent_to_it_alone() {
    let mut plan = plan("", false);
    let service = &mut plan.services[0];
    service.health.target = Target::Vip;
    let ipip = Encapsulation::Ipip;
    let tcp = service.checks[0].clone();
    let elsewhere = Check { address: Some([10, 9, 9, 9].into()), ..tcp.clone() };
    let ping = Check { probe: check::Probe::Ping, ..tcp.clone() };
    let port = Check { port: Some(81), ..tcp.clone() };
    for (mode, encapsulation) in [(Mode::Dr, None), (Mode::Tunnel(ipip), Some(ipip))] {
        service.backends[0].mode = mode;
        let aim = Some(Aim { backend: backend(1).ip(), encapsulation });
        let table = [
            (&tcp, "198.51.100.10:80", aim),
            (&port, "198.51.100.10:81", aim),
            (&elsewhere, "10.9.9.9:80", None),
            (&ping, "10.44.0.11:80", None),
        ];
        for (check, target, aim) in table {
            let asked = asked(service, &service.backends[0], check);
            assert_eq!((asked.target, asked.aim), (target.parse().unwrap(), aim), "{check}");
            assert_eq!(asked.backend, backend(1));
        }
    }
}

/// Counters of one worker; backends have their place in the plan for an id.
fn sources(plan: &Plan) -> Sources {
    let service = &plan.services[0];
    let entry = ServiceEntry {
        id: ServiceId(0),
        name: service.name.clone(),
        protocol: service.protocol,
        address: service.address,
        removed: false,
    };
    let backend = |(id, backend): (u32, &super::super::config::plan::Backend)| BackendEntry {
        id: BackendId(id),
        service: ServiceId(0),
        address: backend.address,
        removed: false,
    };
    let workers = vec![Arc::new(WorkerStats::default()), Arc::new(WorkerStats::default())];
    let sources = Sources::new(StaticFacts::default(), vec![], workers);
    let backends = (0..).zip(&service.backends).map(backend).collect();
    sources.rename(Names { services: vec![entry], backends });
    sources
}

#[test]
fn a_backend_that_leaves_connections_without_an_answer_rests_and_is_tried_again() {
    let (mut health, mut plan) = (health(), plan("passive_fall = 3\npassive_rest_s = 30", false));
    plan.services[0].checks.clear();
    let (start, hands, sources) = (Instant::now(), Hands::default(), sources(&plan));
    let at = |seconds| start + Duration::from_secs(seconds);
    let key = plan.services[0].key();
    let shown = |health: &Health| health.backend(&key, backend(2)).unwrap();
    let look = |health: &mut Health, second| {
        health.hear(&sources, at(second));
        let is_restless = health.tick(at(second));
        (is_restless, compiled_at(health, &plan, &hands, at(second)))
    };
    let all = vec![(1, 1), (2, 2), (3, 3)];
    assert_eq!(compiled_at(&mut health, &plan, &hands, start), all);
    assert_eq!(look(&mut health, 0), (false, all.clone()));
    // Two of one worker and one of another are three.
    sources.workers[0].answers.asked_again(BackendId(1));
    sources.workers[0].answers.asked_again(BackendId(1));
    assert_eq!(look(&mut health, 1), (false, all.clone()));
    assert_eq!((shown(&health).state, shown(&health).why()), ("up".into(), None));
    sources.workers[1].answers.asked_again(BackendId(1));
    assert_eq!(look(&mut health, 2), (true, vec![(1, 1), (3, 3)]));
    let why = shown(&health).why().unwrap_or_default();
    assert!(why.starts_with("passive: 3 connections in a row without an answer, tried"), "{why}");
    assert_eq!(look(&mut health, 31), (false, vec![(1, 1), (3, 3)]));
    assert_eq!(look(&mut health, 32), (true, all.clone()));
    assert_eq!((shown(&health).state, shown(&health).downs), ("up".into(), 1));
}

#[test]
fn a_backend_with_both_kinds_of_checks_must_pass_both() {
    let (mut health, plan) = (health(), plan("passive_fall = 1\npassive_rest_s = 30", false));
    let (start, hands, sources) = (Instant::now(), Hands::default(), sources(&plan));
    let at = |seconds| start + Duration::from_secs(seconds);
    let there = |health: &mut Health, second| {
        health.hear(&sources, at(second));
        health.tick(at(second));
        compiled_at(health, &plan, &hands, at(second)).contains(&(2, 2))
    };
    compiled_at(&mut health, &plan, &hands, start);
    assert!(there(&mut health, 0));
    sources.workers[0].answers.asked_again(BackendId(1));
    assert!(!there(&mut health, 1), "the passive one says no");
    say(&mut health, 2, false, at(2));
    assert!(!there(&mut health, 40), "it has rested, and the active one says no");
    say(&mut health, 2, true, at(41));
    assert!(there(&mut health, 42));
    say(&mut health, 2, false, at(43));
    assert!(!there(&mut health, 43), "the active one alone");
}

/// Its backends are up again, and what was asked of them goes on.
#[test]
fn a_reload_that_ends_passive_checks_ends_their_verdicts() {
    let (mut health, plan) = (health(), plan("passive_fall = 1", false));
    let (start, hands, sources) = (Instant::now(), Hands::default(), sources(&plan));
    compiled_at(&mut health, &plan, &hands, start);
    health.hear(&sources, start);
    sources.workers[0].answers.asked_again(BackendId(1));
    health.hear(&sources, start);
    assert!(health.tick(start));
    assert_eq!(compiled_at(&mut health, &plan, &hands, start), [(1, 1), (3, 3)]);
    let mut after = plan.clone();
    after.services[0].health.passive_fall = 0;
    compiled_at(&mut health, &after, &hands, start);
    assert!(health.tick(start));
    assert_eq!(compiled_at(&mut health, &after, &hands, start), [(1, 1), (2, 2), (3, 3)]);
}

#[tokio::test]
async fn ten_thousand_backends_that_go_down_at_once_are_published_together() {
    let mut plan = plan("", false);
    let first = plan.services[0].backends[0];
    plan.services[0].backends = (0..10_000u16)
        .map(|n| {
            let [high, low] = n.to_be_bytes();
            let address = SocketAddr::from(([10, 45, high, low], 80));
            super::super::config::plan::Backend { address, ..first }
        })
        .collect();
    let mut health = health();
    assert_eq!(health.judge(&plan, &Hands::default(), Instant::now()), Verdicts::default());
    // The changes come by the channel they always come by, while nobody waits for them.
    let (say, changes) = tokio::sync::mpsc::channel(1);
    health.runner.as_mut().unwrap().changes = changes;
    let ids: Vec<CheckId> = health.owners.keys().copied().collect();
    let saying = tokio::spawn(async move {
        for id in ids {
            say.send(Change { id, is_up: false }).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    let mut publications = 0;
    loop {
        health.changed().await;
        publications += 1;
        let verdicts = health.judge(&plan, &Hands::default(), Instant::now());
        if verdicts.services[&plan.services[0].key()].len() == 10_000 {
            break;
        }
    }
    saying.abort();
    assert!(publications <= 20, "{publications} publications");
}
