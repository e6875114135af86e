//! Times the steps of a packet's way: `cargo bench --bench data_path`.

use criterion::{Criterion, criterion_group, criterion_main};

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

criterion_group!(benches, steps);
criterion_main!(benches);
