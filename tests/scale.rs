//! Nothing that a reload, an edit or a look at the box does grows with the square of services or backends.
//!
//! ```text
//! work of one step      n ████               4n ████████████████       as it should be: four times
//!                       n ████               4n ████████████████ … ×4  every one compared with every other
//! ```
//!
//! A step is done with a file of some size and of four times that, and the time this thread has had the CPU is
//! compared: with itself, in one run. Twice four is let pass, for maps outgrow caches; sixteen is what a square makes
//! of it. Whatever disturbs makes it dearer and never cheaper, so the least of several runs counts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

#[path = "scale/files.rs"]
mod files;
#[path = "scale/steps.rs"]
mod steps;

/// Services, or backends of one, in the smaller file.
const FEW: usize = 2_000;
/// How much larger the larger one is, and how much dearer it may be.
const TIMES: usize = 4;
const DEARER_MAX: u32 = 8;
/// Runs of which the least disturbed counts.
const RUNS: usize = 3;
/// A step dearer than that is measured again: whatever disturbs may do so for a while.
const TRIES: usize = 4;

/// CPU time of this thread.
fn now() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    Duration::new(seconds, u32::try_from(nanoseconds).unwrap())
}

/// What the measured part of a step takes; what comes before it is not counted.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begun = now();
    let outcome = std::hint::black_box(work());
    let taken = now().checked_sub(begun).unwrap();
    drop(outcome);
    taken
}

/// The cost with the smaller and with the larger file.
fn costs(step: fn(usize) -> Duration) -> (Duration, Duration) {
    let least = |size| (0..RUNS).map(|_| step(size)).min().unwrap();
    (least(FEW), least(FEW * TIMES))
}

fn hold(step: fn(usize) -> Duration) {
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let (few, many) = costs(step);
        if many <= few * DEARER_MAX {
            return;
        }
        seen.push((few, many));
    }
    panic!("{TIMES} times the size is more than {DEARER_MAX} times as dear: {seen:?}");
}

macro_rules! hold {
    ($($rule:ident: $step:path,)*) => {$(
        #[test]
        fn $rule() {
            hold($step);
        }
    )*};
}

hold! {
    services_at_vips_of_their_own_are_checked_one_by_one: steps::check_apart,
    services_at_ports_of_one_vip_are_checked_one_by_one: steps::check_ports,
    services_at_one_place_for_many_networks_are_checked_one_by_one: steps::check_networks,
    backends_of_one_service_are_checked_one_by_one: steps::check_wide,
    files_of_many_services_are_compared_one_by_one: steps::diff_services,
    services_with_many_backends_are_compared_one_by_one: steps::diff_backends,
    many_services_are_compiled_one_by_one: steps::compile_services,
    many_backends_are_compiled_one_by_one: steps::compile_backends,
    nat_goes_from_vip_to_vip_one_by_one: steps::compile_chain,
    ids_of_backends_in_nat_mode_are_freed_one_by_one: steps::release_nat,
    many_edits_of_many_services_are_made_one_by_one: steps::edit_services,
    many_edits_of_one_services_backends_are_made_one_by_one: steps::edit_backends,
    services_without_a_name_are_given_one_each: steps::edit_nameless,
    addresses_come_and_go_one_by_one: steps::addresses,
    neighbours_are_taken_in_one_by_one: steps::neighbours,
    counters_of_many_are_handed_on_and_exported_one_by_one: steps::counters,
    health_of_many_backends_is_judged_one_by_one: steps::health,
    weights_set_by_hand_are_put_in_one_by_one: steps::hands,
}
