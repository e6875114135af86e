//! Times the steps of a packet's way: `cargo bench --bench data_path`. And, as the steps are all of
//! ordinary packets, how long it takes to read every packet of the rule table, most of which are not.
#![expect(clippy::unwrap_used, clippy::panic, reason = "the table is the tests'")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shunt::dataplane::io::RxInfo;
use shunt::dataplane::parse::parse;

#[path = "../tests/packets/mod.rs"]
mod packets;
mod subjects;

/// Steps timed together: a single one is shorter than the clock can tell.
const AT_ONCE: u32 = 1_000;

fn steps(criterion: &mut Criterion) {
    for (name, mut run) in subjects::all() {
        criterion.bench_function(&format!("{name} x {AT_ONCE}"), |bencher| {
            bencher.iter(|| run(AT_ONCE));
        });
    }
}

fn rules(criterion: &mut Criterion) {
    let packets = packets::rules::packets_in();
    let mut group = criterion.benchmark_group("rules");
    group.throughput(Throughput::Elements(packets.len() as u64));
    group.bench_function("every packet of the rules, read", |bencher| {
        bencher.iter(|| {
            for (_, packet) in &packets {
                black_box(parse(black_box(packet), RxInfo::default()));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, steps, rules);
criterion_main!(benches);
