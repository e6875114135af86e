//! How often the punt lanes are looked at.
//!
//! Workers make no system call, so the control thread has to look. Half of the time between two
//! looks is what a ping of the box or an ARP exchange pays in the mean: [`FAST`] for
//! [`FAST_POLLS`] looks after the last frame, then doubling up to [`SLOW`].
//!
//! A timer of the kernel's own is used (`timerfd`): the runtime's timers go no finer than 1 ms.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// Between two looks while frames come.
pub const FAST: Duration = Duration::from_micros(200);
/// Between two looks when none have come for long.
pub const SLOW: Duration = Duration::from_millis(2);
/// Looks at the fast pace after the last frame: 100 ms.
pub const FAST_POLLS: u32 = 500;

/// The pause after `empty` looks in a row that found nothing.
pub fn pause(empty: u32) -> Duration {
    let doublings = empty.saturating_sub(FAST_POLLS).min(8);
    (FAST * (1 << doublings)).min(SLOW)
}

/// Sleeps between looks.
#[derive(Debug)]
pub struct Pace {
    timer: AsyncFd<OwnedFd>,
    empty: u32,
}

impl Pace {
    /// A pace that starts fast. Needs the runtime.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "warns of types whose descriptor may change or close under tokio; an OwnedFd \
                      held here does neither, and its successor cannot be called from safe code"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { timer, empty: 0 })
    }

    /// Notes what the last look found and sleeps as long as that asks for.
    pub async fn rest(&mut self, moved: bool) -> io::Result<()> {
        self.empty = if moved { 0 } else { self.empty.saturating_add(1) };
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: 0, tv_nsec: i64::from(pause(self.empty).subsec_nanos()) },
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        let mut ready = self.timer.readable().await?;
        let mut expirations = [0; 8];
        let _ = rustix::io::read(self.timer.get_ref(), &mut expirations);
        ready.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_fast_after_traffic_and_slow_when_idle() {
        let table = [
            (0, 200),
            (FAST_POLLS, 200),
            (FAST_POLLS + 1, 400),
            (FAST_POLLS + 2, 800),
            (FAST_POLLS + 3, 1600),
            (FAST_POLLS + 4, 2000),
            (u32::MAX, 2000),
        ];
        for (empty, micros) in table {
            assert_eq!(pause(empty), Duration::from_micros(micros), "after {empty} empty looks");
        }
    }

    /// The middle one of some times.
    fn median(mut times: Vec<Duration>) -> Duration {
        times.sort();
        times[times.len() / 2]
    }

    #[tokio::test]
    async fn a_rest_at_the_fast_pace_is_shorter_than_the_runtimes_own_timers() {
        let mut pace = Pace::new().unwrap();
        pace.rest(true).await.unwrap();
        let (mut rests, mut sleeps) = (Vec::new(), Vec::new());
        // In turns, so that a loaded machine slows both.
        for _ in 0..51 {
            let start = std::time::Instant::now();
            pace.rest(true).await.unwrap();
            rests.push(start.elapsed());
            let start = std::time::Instant::now();
            tokio::time::sleep(FAST).await;
            sleeps.push(start.elapsed());
        }
        assert!(rests.iter().all(|rest| *rest >= FAST), "never shorter than asked for: {rests:?}");
        let (rest, sleep) = (median(rests), median(sleeps));
        assert!(rest < sleep, "{rest:?}, the runtime's {sleep:?}");
    }
}
