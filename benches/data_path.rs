//! Times the steps of a packet's way: `cargo bench --bench data_path`. And, as the steps are all of
//! ordinary packets, what every packet of the rule table takes, most of which are not: to be read, and to be
//! forwarded, dropped or answered as its row says (`tests/flows/rules.rs` holds that it is).
#![expect(clippy::unwrap_used, clippy::panic, reason = "the table is the tests'")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shunt::dataplane::io::RxInfo;
use shunt::dataplane::parse::parse;

#[path = "../tests/packets/mod.rs"]
mod packets;
mod subjects;
#[allow(dead_code, reason = "the flow tests use all of it")]
#[path = "../tests/flows/world.rs"]
mod world;

use packets::rules::{At, Rule, Step, packets_in, rules};
use world::{Card, World};

/// Steps timed together: a single one is shorter than the clock can tell.
const AT_ONCE: u32 = 1_000;

fn steps(criterion: &mut Criterion) {
    for (name, mut run) in subjects::all() {
        criterion.bench_function(&format!("{name} x {AT_ONCE}"), |bencher| {
            bencher.iter(|| run(AT_ONCE));
        });
    }
}

fn rows(criterion: &mut Criterion) {
    let (packets, rows) = (packets_in(), rules(&At::ONE_WORKER));
    let mut group = criterion.benchmark_group("rules");
    group.sample_size(10);
    group.throughput(Throughput::Elements(packets.len() as u64));
    group.bench_function("every packet of the rules, read", |bencher| {
        bencher.iter(|| {
            for (_, packet) in &packets {
                black_box(parse(black_box(packet), RxInfo::default()));
            }
        });
    });
    let most = rows.iter().map(|row| row.packets().len() as u64).sum();
    group.throughput(Throughput::Elements(most));
    group.bench_function("every row of the rules, from port to port", |bencher| {
        bencher.iter_custom(|times| (0..times).flat_map(|_| &rows).map(played).sum());
    });
    group.finish();
}

/// The time a row's packets take a worker, each by itself: no burst shares what a poll costs. Not that of making
/// its world, of reloads and of waiting.
fn played(row: &Rule) -> Duration {
    let mut world = World::of(&row.setup, (1, Card::Any));
    let mut time = Duration::ZERO;
    for step in &row.steps {
        match step {
            Step::Wait(seconds) => world.wait(*seconds),
            Step::Reload(setup) => world.publish(|snapshot| setup.furnish(snapshot)),
            Step::Packet(exchange) => {
                world.arrive(0, exchange.from as usize, &exchange.frame);
                let begin = Instant::now();
                world.poll();
                time += begin.elapsed();
                black_box(world.sent());
            }
        }
    }
    time
}

criterion_group!(benches, steps, rows);
criterion_main!(benches);
