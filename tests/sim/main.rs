//! Whole connections through real workers, in virtual time, judged by a model of the rules.
//!
//! Clients and backends that number, acknowledge, retransmit and give up talk through a network
//! that loses, doubles, delays and reorders, and through the balancer: workers over `Vec`s. Modes,
//! timeouts, weights and next hops change under way. A second implementation of the rules, on a
//! plain `HashMap`, foretells every frame byte for byte, and every count.
//!
//! A seed is a run, the same on every machine. A failure prints its seed; that run again:
//!
//! ```text
//! SHUNT_SIM_SEED=17 cargo nextest run --test sim one_seed
//! SHUNT_SIM_SEEDS=100000 cargo nextest run --test sim        as `make test-long` does
//! ```
//!
//! - [`scenario`], [`terms`], [`config`]: what a seed stands for. [`rng`]: where chance comes from.
//! - [`hosts`], [`routers`], [`strays`], [`network`]: who talks, and over what.
//! - [`balancer`], [`seen`]: the real thing, and what it was seen to do.
//! - [`model`]: the rules. [`packet`], [`pieces`], [`quote`], [`tunnel`]: bytes, read and
//!   written independently.
//! - [`run`], [`trace`]: one seed from start to end. [`lies`]: proof that the model objects.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod balancer;
mod config;
mod hosts;
mod lies;
mod model;
mod network;
mod packet;
#[path = "../packets/mod.rs"]
mod packets;
mod pieces;
mod quote;
mod rng;
mod routers;
mod run;
mod scenario;
mod seen;
mod strays;
mod terms;
mod trace;
mod tunnel;

use lies::{KINDS, Lie};
use run::{Outcome, Run};
use scenario::Scenario;

/// Seeds all shares together run, unless `SHUNT_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 2_400;
/// Tests the seeds are shared out to, so that they run beside each other.
const SHARES: u64 = 8;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

/// Runs a seed, and tells the model that lie. Who cannot make sense of what was seen may panic: that is an
/// objection, too.
fn outcome(seed: u64, lie: Option<Lie>) -> Result<Outcome, String> {
    std::panic::catch_unwind(|| Run::new(Scenario::draw(seed), lie).finish())
        .unwrap_or_else(|_| Err("it panicked, as said above".to_owned()))
}

/// Runs a seed, and says how to run it again if it fails.
fn run(seed: u64) -> Outcome {
    let error = match outcome(seed, None) {
        Ok(outcome) => return outcome,
        Err(error) => error,
    };
    panic!(
        "seed {seed}, {error}\nThis run again: \
         SHUNT_SIM_SEED={seed} cargo nextest run --test sim one_seed"
    );
}

/// Runs every seed of a share.
fn share(of: u64) {
    let seeds = number("SHUNT_SIM_SEEDS").unwrap_or(SEEDS);
    (of..seeds).step_by(usize::try_from(SHARES).unwrap()).for_each(|seed| {
        run(seed);
    });
}

/// A test for each share.
macro_rules! shares {
    ($($name:ident => $of:literal),+) => { $(
        #[test]
        fn $name() {
            share($of);
        }
    )+ };
}

shares! {
    whole_connections_0 => 0, whole_connections_1 => 1, whole_connections_2 => 2,
    whole_connections_3 => 3, whole_connections_4 => 4, whole_connections_5 => 5,
    whole_connections_6 => 6, whole_connections_7 => 7
}

/// The seed of `SHUNT_SIM_SEED`, with all that can be said of it.
#[test]
fn one_seed() {
    let seed = number("SHUNT_SIM_SEED").unwrap_or(0);
    println!("{:#?}", Scenario::draw(seed));
    println!("{:#?}", run(seed));
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// Without this, a simulation in which nothing happens would pass.
#[test]
fn much_happens() {
    let outcomes: Vec<Outcome> = (0..100).map(run).collect();
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let figures = [
        ("connections", sum(|o| o.tally.made.values().sum()), 1_000),
        ("forwarded", sum(|o| o.tally.forwarded), 10_000),
        ("answers", sum(|o| o.tally.answered), 100),
        ("later pieces", sum(|o| o.tally.pieces), 100),
        ("errors passed on", sum(|o| o.tally.errors), 100),
        ("headers ahead", sum(|o| o.tally.ahead), 10),
        ("taken over", sum(|o| o.tally.taken_over), 1),
        ("denied", sum(|o| o.tally.denied), 50),
        ("ends told", sum(|o| o.tally.told), 50),
        ("kept where they were", sum(|o| o.tally.kept), 50),
        ("hashed to where they were", sum(|o| o.tally.hashed), 50),
        ("full backends passed over", sum(|o| o.tally.passed_over), 20),
        ("over a quota", sum(|o| o.tally.over_quota), 20),
        ("cleared", sum(|o| o.tally.cleared), 10),
        ("their own backends", sum(|o| o.tally.hairpins), 3),
        ("path MTUs learned", sum(|o| o.tally.learned), 5),
        ("by another protocol", sum(|o| o.tally.by_another), 10),
        ("datagrams by themselves", sum(|o| o.tally.alone), 20),
        ("suspects", sum(|o| o.tally.suspects), 20),
        ("drops", sum(|o| o.tally.dropped), 100),
        ("handed over", sum(|o| o.handed_over), 1_000),
        ("completed at clients", sum(|o| o.completed.0), 500),
        ("completed at backends", sum(|o| o.completed.1), 200),
        ("taken by half-closed clients", sum(|o| o.deeds.0.taken_half_closed), 40),
        ("resets by clients", sum(|o| o.deeds.0.resets), 20),
        ("resets by backends", sum(|o| o.deeds.1.resets), 8),
        // Half of it has other causes than loss.
        ("sent again by clients", sum(|o| o.deeds.0.again), 500),
        ("sent again by backends", sum(|o| o.deeds.1.again), 700),
        ("ports used again", sum(|o| o.deeds.0.reused), 300),
        ("backends removed from their connections", sum(|o| o.tally.removed), 4),
    ];
    for (what, figure, least) in figures {
        println!("{what}: {figure}");
        assert!(figure >= least, "{what}: {figure}, and not {least}");
    }
}

/// Any bit of any frame, a frame too many or too few, the wrong way, a wrong count: all is seen.
#[test]
fn the_model_objects_to_every_lie() {
    for kind in KINDS {
        let told: Vec<_> = (0..60)
            .filter_map(|seed| {
                let truth = outcome(seed, None);
                let result = outcome(seed, Some(Lie::new(kind, seed % 30, seed)));
                (result != truth).then_some((seed, result))
            })
            .collect();
        assert!(told.len() > 30, "{kind:?} was told {} times", told.len());
        for (seed, result) in told {
            assert!(result.is_err(), "{kind:?} in seed {seed}: nobody noticed");
        }
    }
}
