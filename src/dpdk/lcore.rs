//! Threads and CPUs: which there are, staying on one, and DPDK's notion of a thread.
//!
//! A worker calls, on its own thread and in this order: [`pin`], [`set_timer_slack`], then
//! [`Eal::register_thread`]. Registered threads have a number in DPDK and with it a private cache
//! of free packet buffers in every pool; others take and give buffers through the pool's shared
//! ring, correctly but slower.

use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use dpdk_sys as sys;

use super::eal::{Eal, last_error};

/// Something about threads or CPUs did not work.
#[derive(Debug, thiserror::Error)]
pub enum LcoreError {
    /// The CPU does not exist or this process may not use it.
    #[error("CPU {cpu} cannot be used: this process may run on CPUs {}", ranges(.usable))]
    NoSuchCpu {
        /// The CPU asked for.
        cpu: usize,
        /// The CPUs there are.
        usable: Vec<usize>,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The thread is registered already.
    #[error("this thread is registered with EAL already: keep the first registration")]
    AlreadyRegistered,
    /// `rte_thread_register` refused.
    #[error("EAL did not register the thread: {reason} (it has room for {max} threads)")]
    Register {
        /// What `rte_errno` says.
        reason: String,
        /// Threads EAL has room for.
        max: u32,
    },
}

/// The CPUs the calling thread may run on, ascending.
pub fn usable_cpus() -> Result<Vec<usize>, LcoreError> {
    let mut set = empty_set();
    // SAFETY: `set` is a valid cpu_set_t of the size given; 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    checked(result, "reading the CPUs of this thread")?;
    let maximum = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: every index is below CPU_SETSIZE.
    Ok((0..maximum).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Keeps the calling thread on one CPU. Threads it starts later inherit that: start them before, or
/// [`unpin`] them.
pub fn pin(cpu: usize) -> Result<(), LcoreError> {
    match unpin(&[cpu]) {
        Err(LcoreError::System { .. }) => {
            Err(LcoreError::NoSuchCpu { cpu, usable: usable_cpus()? })
        }
        outcome => outcome,
    }
}

/// Lets the calling thread run on any of `cpus`.
pub fn unpin(cpus: &[usize]) -> Result<(), LcoreError> {
    let mut set = empty_set();
    for &cpu in cpus {
        if cpu >= usize::try_from(libc::CPU_SETSIZE).unwrap_or(0) {
            return Err(LcoreError::NoSuchCpu { cpu, usable: usable_cpus()? });
        }
        // SAFETY: `cpu` is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: `set` is a valid cpu_set_t of the size given; 0 is the calling thread.
    let result =
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    checked(result, "moving this thread to other CPUs")
}

/// Sets how late the kernel may wake the calling thread from a short sleep, to save wake-ups. The
/// default of 50 µs is longer than the sleeps of an idle worker; 1 µs suits them. At least 1 ns.
pub fn set_timer_slack(slack: Duration) -> Result<(), LcoreError> {
    let nanos = libc::c_ulong::try_from(slack.as_nanos()).unwrap_or(libc::c_ulong::MAX).max(1);
    // SAFETY: changes a number of the calling thread, no memory.
    let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanos) };
    checked(result, "setting the timer slack")
}

/// Blocks signals on the calling thread, and so on the threads it will start, except those a fault
/// of its own raises.
pub(super) fn block_signals() {
    // SAFETY: an all-zero sigset_t is a valid value; it is filled in the next line.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid to write.
    unsafe { libc::sigfillset(&raw mut set) };
    for signal in [libc::SIGBUS, libc::SIGSEGV, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP] {
        // SAFETY: `set` is initialised; the signal exists.
        unsafe { libc::sigdelset(&raw mut set, signal) };
    }
    // SAFETY: `set` is initialised; changes the calling thread's mask only.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// A thread known to DPDK, until dropped. It stays on the thread that made it.
///
/// Where [secondary processes](super::secondary) may attach it is a thread like any other: DPDK has the one or the other,
/// as a secondary process numbers its threads by itself. Such a thread has no caches.
#[derive(Debug)]
pub struct Registration {
    is_known: bool,
    /// Keeps EAL, and with it every pool this thread's cache belongs to.
    _eal: Eal,
    /// Not `Send`: unregistering is the registered thread's to do.
    thread: PhantomData<*const ()>,
}

impl Registration {
    pub(super) fn new(eal: &Eal) -> Result<Self, LcoreError> {
        if eal.is_attachable() {
            return Ok(Self { is_known: false, _eal: eal.clone(), thread: PhantomData });
        }
        // SAFETY: reads a thread-local of the calling thread.
        let number = unsafe { sys::rte_lcore_id() };
        if number < sys::RTE_MAX_LCORE {
            return Err(LcoreError::AlreadyRegistered);
        }
        let lock = eal.control();
        // SAFETY: EAL is running (`eal`), the thread is not registered.
        let result = unsafe { sys::rte_thread_register() };
        drop(lock);
        if result < 0 {
            let max = sys::RTE_MAX_LCORE;
            return Err(LcoreError::Register { reason: last_error(), max });
        }
        Ok(Self { is_known: true, _eal: eal.clone(), thread: PhantomData })
    }

    /// The number DPDK gave this thread.
    pub fn number(&self) -> u32 {
        // SAFETY: reads a thread-local; `self` cannot leave its thread.
        unsafe { sys::rte_lcore_id() }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.is_known {
            // SAFETY: on the thread that registered, since `Registration` is not `Send`.
            unsafe { sys::rte_thread_unregister() };
        }
    }
}

fn empty_set() -> libc::cpu_set_t {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    unsafe { std::mem::zeroed() }
}

fn checked(result: libc::c_int, what: &'static str) -> Result<(), LcoreError> {
    if result < 0 {
        return Err(LcoreError::System { what, source: io::Error::last_os_error() });
    }
    Ok(())
}

/// `0-3, 8, 10-11` for ascending numbers.
fn ranges(numbers: &[usize]) -> String {
    let mut out = String::new();
    let mut rest = numbers;
    while let Some(&first) = rest.first() {
        let run = rest.iter().zip(first..).take_while(|(number, next)| *number == next).count();
        let separator = if out.is_empty() { "" } else { ", " };
        let last = first + run - 1;
        let range = if run == 1 { first.to_string() } else { format!("{first}-{last}") };
        out.push_str(separator);
        out.push_str(&range);
        rest = &rest[run..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs on a thread of its own, so that no other test inherits the pinning.
    fn on_a_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(body).join().expect("no panic"))
    }

    #[test]
    fn a_pinned_thread_runs_on_that_cpu_alone_and_can_be_freed_again() {
        on_a_thread(|| {
            let all = usable_cpus().expect("readable");
            let last = *all.last().expect("at least one CPU");
            pin(last).expect("usable");
            assert_eq!(usable_cpus().expect("readable"), [last]);
            unpin(&all).expect("usable");
            assert_eq!(usable_cpus().expect("readable"), all);
        });
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_refused_with_the_ones_that_do() {
        let usable = usable_cpus().expect("readable");
        for cpu in [1000, 1_000_000] {
            let error = on_a_thread(|| pin(cpu)).expect_err("no such CPU");
            let expected = format!(
                "CPU {cpu} cannot be used: this process may run on CPUs {}",
                ranges(&usable)
            );
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn timer_slack_is_the_calling_threads_own() {
        let slack = on_a_thread(|| {
            set_timer_slack(Duration::from_micros(1)).expect("always allowed");
            // SAFETY: reads a number of the calling thread.
            unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) }
        });
        assert_eq!(slack, 1000);
    }

    #[test]
    fn cpu_lists_are_written_as_ranges() {
        for (cpus, text) in [(vec![], ""), (vec![4], "4"), (vec![0, 1, 2, 5, 7, 8], "0-2, 5, 7-8")]
        {
            assert_eq!(ranges(&cpus), text);
        }
    }
}
