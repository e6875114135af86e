//! What a reload makes of wrr's threshold, held against the changes one by one.

use super::*;

/// The rule for one change, once more.
fn adjusted(weights: &BTreeMap<u16, u32>, threshold: u32) -> u32 {
    let largest = weights.values().max().copied().unwrap_or(0);
    let divides = |step: &u32| weights.values().all(|weight| weight % step == 0);
    let Some(step) = (1..=largest).rev().find(divides) else { return 0 };
    match threshold {
        0 => largest + 1 - step,
        above if above > largest + 1 - step => largest + 1 - step,
        other if step > 1 => other / step * step + 1,
        other => other,
    }
}

/// Backends by port, which is also how old they are: the file lists them so.
type File = BTreeMap<u16, u32>;

/// Removals, then edits, then additions; the oldest first.
fn reload(running: &mut File, new: &File, mut threshold: u32) -> u32 {
    let gone: Vec<u16> = running.keys().filter(|port| !new.contains_key(port)).copied().collect();
    for port in gone {
        running.remove(&port);
        threshold = adjusted(running, threshold);
    }
    let (kept, added): (Vec<_>, Vec<_>) =
        new.iter().partition(|(port, _)| running.contains_key(port));
    for (port, weight) in kept.into_iter().chain(added) {
        if running.insert(*port, *weight) != Some(*weight) {
            threshold = adjusted(running, threshold);
        }
    }
    threshold
}

/// A file, whether its service is scheduled by something else, and whether a worker looks.
type Step = (File, bool, bool);

fn step() -> impl Strategy<Value = Step> {
    let weight = prop_oneof![0..7u32, (1..6u32).prop_map(|n| n * 4)];
    let file = prop::collection::btree_map(1..9u16, weight, 0..7);
    (file, prop::bool::weighted(0.1), any::<bool>())
}

proptest! {
    #[test]
    fn a_reload_is_its_changes_one_by_one(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let (mut compiler, mut running, mut expected) = (Compiler::new(), File::new(), 0);
        // What a worker knows.
        let (mut seen, mut threshold) = (0, 0);
        for (mut file, is_otherwise, is_looked_at) in steps {
            // Ports tell the age: none comes that is older than one that stays.
            let youngest = running.keys().filter(|port| file.contains_key(port)).max().copied();
            file.retain(|port, _| running.contains_key(port) || youngest.is_none_or(|y| *port > y));
            let listed: Vec<(u16, u32)> = file.iter().map(|(port, weight)| (*port, *weight)).collect();
            let mut plan = service(80, &listed);
            if is_otherwise {
                plan.scheduler = Scheduler::RR;
                compile(&mut compiler, vec![plan.clone()]);
                plan.scheduler = Scheduler::WRR;
                running = file.clone();
                expected = adjusted(&running, 0);
            } else {
                expected = reload(&mut running, &file, expected);
            }
            let snapshot = compile(&mut compiler, vec![plan]);
            if is_looked_at {
                let service = find(&snapshot, 80);
                threshold = service.weighings.adjusted(seen, threshold);
                seen = service.revision;
                prop_assert_eq!(threshold, expected, "{:?}", running);
                // Some passes on: down to the lowest of the same step.
                let step = running.values().fold(0, |a, b| gcd(a, *b)).max(1);
                threshold = if threshold > step { threshold - step } else { threshold };
                expected = threshold;
            }
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Another service with the id of one that is gone, or the same one again, knows nothing of it.
#[test]
fn a_service_that_comes_back_begins_anew() {
    let mut compiler = Compiler::new();
    compile(&mut compiler, vec![service(80, &[(1, 3), (2, 5)])]);
    compile(&mut compiler, vec![]);
    let snapshot = compile(&mut compiler, vec![service(80, &[(1, 3), (2, 5)])]);
    assert_eq!(find(&snapshot, 80).weighings.adjusted(0, 0), 1, "the first added leaves one pass");
}

/// A tree, not a walk for each: sixteen times as many backends, each weighed anew, take nowhere near 256 times
/// as long.
#[test]
fn weighing_a_large_service_anew_is_no_walk_for_each_backend() {
    let once = |count: u16| {
        let backends = |more: u32| (1..=count).map(move |n| (n, u32::from(n) % 50 + more));
        let all = |more| vec![service(80, &backends(more).collect::<Vec<_>>())];
        let mut compiler = Compiler::new();
        compile(&mut compiler, all(1));
        let began = std::time::Instant::now();
        compile(&mut compiler, all(2));
        began.elapsed()
    };
    let least = |count| (0..5).map(|_| once(count)).min().unwrap();
    let (few, many) = (least(1_024), least(16_384));
    assert!(many < few * 100, "{few:?} and {many:?}");
}
