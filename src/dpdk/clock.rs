//! Time for the data path: one instruction to read, one multiplication to convert.
//!
//! A worker reads the CPU's time stamp counter once a burst and hands the value down as an
//! argument; asking the kernel would cost twenty times as much. [`Clock::ms`] turns ticks into
//! milliseconds as `ticks × (1000 × 2⁶⁴ / hz) >> 64`: the factor is rounded once, to one part in
//! 10¹³, and the *whole* tick count is converted each time, so nothing adds up: the result stays
//! within a millisecond of the true quotient for longer than a machine stays up.
//!
//! The frequency is measured against `CLOCK_MONOTONIC_RAW` rather than taken from CPUID or DPDK:
//! virtual machines often announce a nominal figure (0.2 % off is common), which is eight seconds
//! an hour. Measuring takes [`CALIBRATION`] once per process and is good to some ten parts per
//! million.

use std::arch::x86_64::{__cpuid, _rdtsc};
use std::sync::OnceLock;
use std::time::Duration;

/// How long the frequency is measured: long against the jitter of reading two clocks (some 50 ns),
/// short enough not to be noticed at start.
pub const CALIBRATION: Duration = Duration::from_millis(20);

/// The time stamp counter of the CPU this runs on.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 CPU, touches no memory, and Linux leaves it enabled
    // for user space (a process that forbade it itself by prctl gets a signal, not wrong values).
    unsafe { _rdtsc() }
}

/// Does the counter tick at one rate in all power states of the CPU (CPUID leaf `8000_0007`, EDX bit 8)?
/// If not, [`Clock`] follows the CPU's frequency instead of time.
pub fn invariant() -> bool {
    const LEAF: u32 = 0x8000_0007;
    __cpuid(0x8000_0000).eax >= LEAF && __cpuid(LEAF).edx & (1 << 8) != 0
}

/// Converts ticks of the counter to time. Copy it into each worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    hz: u64,
    origin: u64,
    /// Milliseconds per tick, as a fraction of 2⁶⁴.
    ms_per_tick: u64,
}

impl Clock {
    /// The clock of this process: measured at the first call, the same for every caller, so that
    /// all workers count milliseconds from one origin.
    pub fn shared() -> Self {
        static SHARED: OnceLock<Clock> = OnceLock::new();
        *SHARED.get_or_init(|| Self::new(measure_hz(), now()))
    }

    /// A clock of a known frequency (over 1 kHz; less is taken as 1 kHz) whose millisecond 0 is at
    /// `origin` ticks.
    pub fn new(hz: u64, origin: u64) -> Self {
        let hz = hz.max(1001);
        let factor = (1000_u128 << 64) / u128::from(hz);
        Self { hz, origin, ms_per_tick: u64::try_from(factor).unwrap_or(u64::MAX) }
    }

    /// Milliseconds from the origin to `ticks`; 0 for ticks before it.
    #[inline(always)]
    pub fn ms(&self, ticks: u64) -> u64 {
        let elapsed = ticks.saturating_sub(self.origin);
        // The high half of the product: always fits, since the factor is below 2⁶⁴.
        ((u128::from(elapsed) * u128::from(self.ms_per_tick)) >> 64) as u64
    }

    /// Milliseconds from the origin to now.
    #[inline(always)]
    pub fn now_ms(&self) -> u64 {
        self.ms(now())
    }

    /// Ticks a second.
    pub fn hz(&self) -> u64 {
        self.hz
    }

    /// How many ticks `duration` takes.
    pub fn ticks(&self, duration: Duration) -> u64 {
        let ticks = duration.as_nanos() * u128::from(self.hz) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// How long `ticks` take.
    pub fn duration(&self, ticks: u64) -> Duration {
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(self.hz);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The counter's frequency, measured over [`CALIBRATION`].
fn measure_hz() -> u64 {
    let (ticks_before, nanos_before) = read_both();
    std::thread::sleep(CALIBRATION);
    let (ticks_after, nanos_after) = read_both();
    let ticks = u128::from(ticks_after.saturating_sub(ticks_before));
    let nanos = u128::from(nanos_after.saturating_sub(nanos_before).max(1));
    u64::try_from(ticks * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// Counter and kernel clock at the same instant: of several tries the one where the two counter
/// readings around the kernel's lie closest, so that an interruption between them is outvoted.
fn read_both() -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..16 {
        let before = now();
        let nanos = monotonic_ns();
        let gap = now().saturating_sub(before);
        if gap < best.0 {
            best = (gap, before + gap / 2, nanos);
        }
    }
    (best.1, best.2)
}

/// The kernel's clock that nobody slews.
fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write; the clock exists since Linux 2.6.28, and should
    // the call fail all the same, `time` keeps its zeros.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    #[test]
    fn the_measured_clock_agrees_with_the_kernel_over_a_tenth_of_a_second() {
        let clock = Clock::shared();
        let (start, begin) = (now(), Instant::now());
        std::thread::sleep(Duration::from_millis(100));
        let (ticks, kernel) = (now() - start, begin.elapsed());
        let ours = clock.duration(ticks);
        assert!(ours.abs_diff(kernel) < Duration::from_millis(1), "{ours:?} against {kernel:?}");
    }

    #[test]
    fn every_caller_shares_one_origin() {
        assert_eq!(Clock::shared(), Clock::shared());
    }

    #[test]
    fn ticks_before_the_origin_are_millisecond_zero() {
        assert_eq!(Clock::new(2_450_000_000, 1000).ms(999), 0);
    }

    #[test]
    fn a_duration_and_its_ticks_convert_back() {
        let clock = Clock::new(2_000_000_000, 0);
        assert_eq!(clock.ticks(Duration::from_micros(3)), 6000);
        assert_eq!(clock.duration(6000), Duration::from_micros(3));
    }

    proptest! {
        /// Ten years of uptime at any frequency a CPU has had: never more than one off.
        #[test]
        fn milliseconds_never_drift_from_the_exact_quotient(
            hz in 500_000_000_u64..6_000_000_000,
            seconds in 0_u64..315_360_000,
            part in 0_u64..500_000_000,
        ) {
            let ticks = seconds * hz + part;
            let exact = u128::from(ticks) * 1000 / u128::from(hz);
            let ours = u128::from(Clock::new(hz, 0).ms(ticks));
            prop_assert!(ours == exact || ours + 1 == exact, "{ours} against {exact}");
        }

        #[test]
        fn milliseconds_never_go_backwards(a in any::<u64>(), b in any::<u64>()) {
            let clock = Clock::new(2_445_420_000, 7);
            prop_assert!(clock.ms(a.min(b)) <= clock.ms(a.max(b)));
        }
    }
}
