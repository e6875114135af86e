//! DPDK's environment: started once per process, ended when nothing of it is in use.
//!
//! ```text
//!            ┌─ Pool ◄─ Queue ◄─ Port      every arrow and every handle keeps an `Eal` alive;
//!   Eal ◄────┼─ lane ends                  the last one to go ends it: pools freed, then cleanup,
//!            └─ Registration (a thread)    but only if every buffer has come home
//! ```
//!
//! **Who frees what.** A packet is eight bytes, a pointer; it cannot afford a reference count on
//! its pool. So a pool's memory is given back only at the very end, when a count shows that all its
//! buffers are home; if one is still out in some safe variable, the memory stays mapped until the
//! process ends, and that is all that happens. The count is exact: threads with a per-core buffer
//! cache hold an `Eal` through their [`Registration`], so none exists at that moment, and a thread
//! without a cache touches pool memory for the last time when it makes its buffer countable.
//!
//! For the same reason no thread of ours is EAL's "main lcore", which would have a cache and no
//! registration: `rte_eal_init` runs on a thread of its own that ends right after. That thread also
//! keeps to itself the CPU pinning EAL does, and blocks signals, which EAL's own threads inherit.
//!
//! **What is outside the promise.** Device strings and extra arguments are the administrator's:
//! they configure C code (`net_ring` can be told to share another port's ring) and are trusted.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dpdk_sys as sys;

use super::lcore::{self, LcoreError, Registration};
use super::memory::{self, HugePages};
use super::overheard::{overhear, with_words};
use super::secondary::Attachable;

/// What EAL is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalOptions {
    /// Whether DPDK's memory comes from huge pages.
    pub huge_pages: HugePages,
    /// Megabytes reserved at start for pools, rings and drivers.
    pub memory_mb: u32,
    /// Separates the files of DPDK processes on one machine.
    pub file_prefix: String,
    /// DPDK's own tools may attach, as [secondary processes](super::secondary). Needs huge pages.
    pub secondary_processes: bool,
    /// Devices of all ports that will be probed: the PCI addresses among them are the only PCI
    /// devices DPDK may touch.
    pub devices: Vec<String>,
    /// Further EAL arguments, as they are; they win over ours.
    pub extra: Vec<String>,
}

impl Default for EalOptions {
    fn default() -> Self {
        Self {
            huge_pages: HugePages::Auto,
            memory_mb: 512,
            file_prefix: "shunt".to_owned(),
            secondary_processes: false,
            devices: Vec::new(),
            extra: Vec::new(),
        }
    }
}

/// EAL could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// One start per process.
    #[error(
        "DPDK's EAL was already started in this process, and it starts once: keep the handle of \
         the first start, or use a new process"
    )]
    AlreadyStarted,
    /// Huge pages were required and there are not enough.
    #[error(
        "huge_pages = \"require\", but {memory_mb} MB of huge pages are not free: reserve them \
         with `sysctl vm.nr_hugepages={pages}` (2 MiB each), or set huge_pages = \"auto\""
    )]
    NoHugePages {
        /// Megabytes asked for.
        memory_mb: u32,
        /// The same in pages of 2 MiB.
        pages: u32,
    },
    /// More ordinary memory was asked for than the machine has left.
    #[error(
        "memory_mb {memory_mb} is more than this machine has available, {available_mb} MB \
         (`MemAvailable` in /proc/meminfo), and no huge pages back it: ask for less, or reserve \
         {pages} huge pages of 2 MiB"
    )]
    NoMemory {
        /// Megabytes asked for.
        memory_mb: u32,
        /// Megabytes there are.
        available_mb: u64,
        /// What was asked for in pages of 2 MiB.
        pages: u32,
    },
    /// Ordinary pages have no name by which another process could find them.
    #[error(
        "secondary_processes = true, but DPDK's memory is on ordinary pages, which no other process can \
         attach to: set huge_pages = \"require\""
    )]
    NotAttachable,
    /// An argument has a NUL byte inside.
    #[error("EAL argument {0:?} has a NUL byte in it: remove it")]
    NulInArgument(String),
    /// No thread to start EAL on.
    #[error("no thread to start EAL on: {0}")]
    Thread(std::io::Error),
    /// The CPUs of this process could not be read.
    #[error(transparent)]
    Cpus(#[from] LcoreError),
    /// `rte_eal_init` refused.
    #[error("EAL did not start: {reason}; {mend} (arguments: {arguments})")]
    Init {
        /// What `rte_errno` says.
        reason: String,
        /// What to do about it.
        mend: &'static str,
        /// The arguments it got.
        arguments: String,
    },
}

/// A handle on the running EAL. Clones share it; see the module's header for when it ends.
#[derive(Clone, Debug)]
pub struct Eal {
    inner: Arc<Inner>,
}

/// What backs DPDK's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backing {
    /// Ordinary pages.
    Ordinary,
    /// Huge pages that only this process knows.
    Huge,
    /// Huge pages that other processes can attach to.
    Shared,
}

#[derive(Debug)]
struct Inner {
    description: String,
    memory_mb: u32,
    /// DPDK's control calls are made for one caller at a time.
    control: Mutex<()>,
    /// Pools nobody holds any more, waiting for the end.
    retired: Mutex<Vec<RetiredPool>>,
    /// Ethernet devices some [`super::port`] handle owns, by DPDK port id.
    claimed: Mutex<Vec<u16>>,
    /// What other processes attach to, if they may; taken away when all else has ended.
    attachable: Option<Attachable>,
}

#[derive(Debug)]
struct RetiredPool {
    pool: NonNull<sys::rte_mempool>,
    size: u32,
}

// SAFETY: a mempool is shared memory with no tie to a thread; the vector is only read by the one
// thread that drops `Inner`.
unsafe impl Send for RetiredPool {}

impl Eal {
    /// Starts EAL. Possible once per process, whatever the outcome after the memory check.
    pub fn start(options: &EalOptions) -> Result<Self, EalError> {
        static STARTED: AtomicBool = AtomicBool::new(false);
        if STARTED.load(Ordering::Relaxed) {
            return Err(EalError::AlreadyStarted);
        }
        let backing = backing(options)?;
        if backing == Backing::Ordinary {
            check_memory(options.memory_mb, memory_available_mb())?;
        }
        let arguments = arguments(options, backing, &lcore::usable_cpus()?);
        if STARTED.swap(true, Ordering::Relaxed) {
            return Err(EalError::AlreadyStarted);
        }
        initialise(&arguments)?;
        let attachable = match backing {
            Backing::Shared => Some(Attachable::open(runtime_directory(), &options.file_prefix)),
            Backing::Ordinary | Backing::Huge => {
                remove_runtime_directory();
                None
            }
        };
        let inner = Inner {
            attachable,
            description: describe(options, backing),
            memory_mb: options.memory_mb,
            control: Mutex::default(),
            retired: Mutex::default(),
            claimed: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// One line for the log: version, memory, addressing.
    pub fn description(&self) -> &str {
        &self.inner.description
    }

    /// Megabytes that were asked for. On huge pages DPDK takes more where there are more.
    pub(super) fn memory_mb(&self) -> u32 {
        self.inner.memory_mb
    }

    /// Gives the calling thread a DPDK core number and with it buffer caches, until the guard is
    /// dropped. Pin the thread first. A second registration of a thread is refused.
    pub fn register_thread(&self) -> Result<Registration, LcoreError> {
        Registration::new(self)
    }

    /// May other processes attach?
    pub(super) fn is_attachable(&self) -> bool {
        self.inner.attachable.is_some()
    }

    /// Makes control calls one at a time.
    pub(super) fn control(&self) -> MutexGuard<'_, ()> {
        locked(&self.inner.control)
    }

    /// Marks an Ethernet device as owned; false if it already is.
    pub(super) fn claim(&self, id: u16) -> bool {
        let mut claimed = locked(&self.inner.claimed);
        let free = !claimed.contains(&id);
        if free {
            claimed.push(id);
        }
        free
    }

    /// Ends a claim.
    pub(super) fn release(&self, id: u16) {
        locked(&self.inner.claimed).retain(|&other| other != id);
    }

    /// Takes over a pool nobody holds any more, to be freed at the end.
    pub(super) fn retire(&self, pool: NonNull<sys::rte_mempool>, size: u32) {
        locked(&self.inner.retired).push(RetiredPool { pool, size });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(attachable) = &mut self.attachable {
            attachable.close();
        }
        let retired = self.retired.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: nobody has freed the pools in this list.
        let home = |p: &RetiredPool| unsafe { sys::rte_mempool_avail_count(p.pool.as_ptr()) };
        if retired.iter().any(|pool| home(pool) < pool.size) {
            return; // A packet is alive somewhere: its memory must stay.
        }
        for pool in retired.drain(..) {
            // SAFETY: all buffers are home and every handle is gone, or `Inner` would live.
            unsafe { sys::rte_mempool_free(pool.pool.as_ptr()) };
        }
        // SAFETY: started once by `Eal::start`; ports, rings and registrations hold an `Eal`.
        unsafe { sys::rte_eal_cleanup() };
    }
}

/// Locks, also after a panic elsewhere: what these mutexes guard is never left half-changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The version of the DPDK library loaded, `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: no precondition; works before EAL is started.
    let text = unsafe { sys::rte_version() };
    owned_text(text)
}

/// The text of the calling thread's `rte_errno`.
pub(super) fn last_error() -> String {
    // SAFETY: reads a thread-local of the calling thread.
    error_text(unsafe { sys::shim_errno() })
}

/// The text of an error number, sign ignored.
pub(super) fn error_text(number: c_int) -> String {
    // SAFETY: returns a static or thread-local string for any number.
    let text = unsafe { sys::rte_strerror(number.saturating_abs()) };
    owned_text(text)
}

/// Copies a C string that DPDK just returned.
pub(super) fn owned_text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: DPDK's strings end in NUL and live at least until this thread's next call into it.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// What backs the memory of this start?
fn backing(options: &EalOptions) -> Result<Backing, EalError> {
    match (choose_huge_pages(options)?, options.secondary_processes) {
        (true, true) => Ok(Backing::Shared),
        (true, false) => Ok(Backing::Huge),
        (false, true) => Err(EalError::NotAttachable),
        (false, false) => Ok(Backing::Ordinary),
    }
}

/// Do huge pages back this start? The check reserves them and gives them back: free counts alone
/// do not know of limits on this process.
fn choose_huge_pages(options: &EalOptions) -> Result<bool, EalError> {
    let memory_mb = options.memory_mb;
    let enough = || memory::huge_pages_free(memory_mb as usize * (1 << 20));
    match options.huge_pages {
        HugePages::Never => Ok(false),
        HugePages::Auto => Ok(enough()),
        HugePages::Require if enough() => Ok(true),
        HugePages::Require => {
            Err(EalError::NoHugePages { memory_mb, pages: memory_mb.div_ceil(2) })
        }
    }
}

/// EAL touches all ordinary memory when it starts: more than there is would take the machine down.
/// Where the kernel does not say how much there is, nothing is refused.
fn check_memory(memory_mb: u32, available_mb: Option<u64>) -> Result<(), EalError> {
    match available_mb {
        Some(available_mb) if available_mb < u64::from(memory_mb) => {
            Err(EalError::NoMemory { memory_mb, available_mb, pages: memory_mb.div_ceil(2) })
        }
        _ => Ok(()),
    }
}

/// `MemAvailable` (proc(5)), in megabytes.
fn memory_available_mb() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes >> 10)
}

/// The argument vector. `--in-memory` leaves no file behind, not even after `kill -9`, and needs no
/// hugetlbfs mount; 22.11 does not take it together with `--no-huge`. Only what has files can be attached to.
fn arguments(options: &EalOptions, backing: Backing, cpus: &[usize]) -> Vec<String> {
    let cpus = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut list = vec!["shunt".to_owned(), format!("--lcores=0@({cpus})")];
    list.extend(["-m".to_owned(), options.memory_mb.to_string()]);
    list.push(format!("--file-prefix={}", options.file_prefix));
    list.push(format!("--log-level={}", sys::RTE_LOG_ERR));
    list.push("--no-telemetry".to_owned());
    let memory: &[&str] = match backing {
        Backing::Ordinary => &["--no-huge", "--no-shconf"],
        Backing::Huge => &["--in-memory"],
        Backing::Shared => &[],
    };
    list.extend(memory.iter().map(|&argument| argument.to_owned()));
    let pci: Vec<&String> = options.devices.iter().filter(|device| is_pci(device)).collect();
    if pci.is_empty() {
        list.push("--no-pci".to_owned());
    }
    list.extend(pci.into_iter().flat_map(|device| ["-a".to_owned(), device.clone()]));
    list.extend(options.extra.iter().cloned());
    list
}

/// Is the device a PCI address, `0000:3b:00.0` or `3b:00.0`, with or without arguments?
pub fn is_pci(device: &str) -> bool {
    let address = device.split(',').next().unwrap_or_default();
    let address = address.strip_prefix("pci:").unwrap_or(address);
    let Some((bus, function)) = address.rsplit_once('.') else { return false };
    let hex = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
    matches!(bus.split(':').count(), 2 | 3) && bus.split(':').all(hex) && hex(function)
}

/// Runs `rte_eal_init` on a thread of its own.
fn initialise(arguments: &[String]) -> Result<(), EalError> {
    let c_string = |text: &String| {
        CString::new(text.as_str()).map_err(|_| EalError::NulInArgument(text.clone()))
    };
    let owned = arguments.iter().map(c_string).collect::<Result<Vec<_>, _>>()?;
    let outcome = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("eal-init".to_owned());
        let running = thread.spawn_scoped(scope, || overhear(|| call_init(owned)))?;
        running.join().map_err(|_| std::io::Error::other("the thread starting EAL panicked"))
    });
    outcome.map_err(EalError::Thread)?.map_err(|(number, words)| EalError::Init {
        reason: with_words(error_text(number), words),
        mend: mend(number),
        arguments: arguments.join(" "),
    })
}

/// Calls `rte_eal_init` on this thread; the error is `rte_errno`.
fn call_init(arguments: Vec<CString>) -> Result<(), c_int> {
    lcore::block_signals();
    // EAL permutes the vector and keeps pointers into it: it lives as long as the process.
    let mut vector: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    vector.push(std::ptr::null_mut());
    let vector = vector.leak();
    let count = c_int::try_from(vector.len() - 1).unwrap_or(c_int::MAX);
    // SAFETY: no precondition; before EAL's own log starts, so that it never goes to syslog.
    unsafe { sys::shim_log_to_stderr() };
    // SAFETY: the only call in this process (`STARTED`); `count` strings, then a null, all leaked.
    let result = unsafe { sys::rte_eal_init(count, vector.as_mut_ptr()) };
    // SAFETY: reads a thread-local of this thread.
    if result < 0 { Err(unsafe { sys::shim_errno() }) } else { Ok(()) }
}

/// Removes the directory EAL has made for files it then does not make (no shared configuration, no
/// telemetry), so that not even a killed process leaves something behind. If there are files after
/// all, because extra arguments asked for them, it stays.
fn remove_runtime_directory() {
    let _ = std::fs::remove_dir(runtime_directory());
}

/// Where EAL keeps what is no memory.
fn runtime_directory() -> PathBuf {
    // SAFETY: EAL is running.
    owned_text(unsafe { sys::rte_eal_get_runtime_dir() }).into()
}

/// What usually mends an error of `rte_eal_init`.
fn mend(number: c_int) -> &'static str {
    match number {
        libc::EACCES | libc::EPERM => {
            "run as root, or with CAP_IPC_LOCK, CAP_NET_ADMIN and CAP_NET_RAW"
        }
        libc::ENOMEM => "ask for less `memory_mb`, or reserve more huge pages",
        libc::EINVAL => "check the file prefix and the extra EAL arguments",
        libc::ENODEV | libc::ENXIO => "check that each PCI device exists and is bound to vfio-pci",
        libc::EAGAIN => "another DPDK process uses this file prefix: stop it or choose another",
        _ => "SHUNT_LOG=debug shows all that DPDK says",
    }
}

fn describe(options: &EalOptions, backing: Backing) -> String {
    // SAFETY: EAL is running.
    let mode = unsafe { sys::rte_eal_iova_mode() };
    let addresses = if mode == sys::rte_iova_mode::RTE_IOVA_PA { "physical" } else { "virtual" };
    let pages = match backing {
        Backing::Ordinary => "ordinary pages (no huge pages)",
        Backing::Huge => "huge pages, in memory",
        Backing::Shared => "huge pages, for secondary processes too",
    };
    let (version, mb, prefix) = (version(), options.memory_mb, &options.file_prefix);
    format!("{version}: {mb} MB on {pages}, {addresses} IO addresses, file prefix {prefix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_virtual_devices() {
        for (device, pci) in [
            ("0000:3b:00.0", true),
            ("3b:00.1,rx_vec_en=1", true),
            ("pci:0000:3b:00.0", true),
            ("net_af_packet0,iface=eth1.5", false),
            ("net_ring0", false),
            ("", false),
            ("net:ring.0", false),
        ] {
            assert_eq!(is_pci(device), pci, "{device}");
        }
    }

    #[test]
    fn the_library_loaded_is_of_the_release_whose_headers_were_bound() {
        let bound = env!("SHUNT_DPDK_VERSION");
        let release = bound.rsplit_once('.').map_or(bound, |(release, _)| release);
        let loaded = version();
        assert!(loaded.starts_with(&format!("DPDK {release}")), "{loaded}, bound {bound}");
        let stamp = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SHUNT_GIT"), ")");
        assert_eq!(env!("SHUNT_VERSION"), stamp);
    }

    #[test]
    fn without_huge_pages_the_two_exclusive_memory_modes_never_meet() {
        let options = EalOptions::default();
        for (backing, has) in [
            (Backing::Ordinary, [true, true, false]),
            (Backing::Huge, [false, false, true]),
            (Backing::Shared, [false, false, false]),
        ] {
            let list = arguments(&options, backing, &[0, 1]);
            let said = |what: &str| list.contains(&what.to_owned());
            assert_eq!(["--no-huge", "--no-shconf", "--in-memory"].map(said), has, "{backing:?}");
        }
    }

    #[test]
    fn only_listed_pci_devices_are_touched_and_extra_arguments_come_last() {
        let devices = vec!["0000:3b:00.0".to_owned(), "net_ring0".to_owned()];
        let extra = vec!["--telemetry".to_owned()];
        let options = EalOptions { devices, extra, ..EalOptions::default() };
        let list = arguments(&options, Backing::Huge, &[3, 5]);
        assert_eq!(list.last().map(String::as_str), Some("--telemetry"));
        assert!(list.windows(2).any(|pair| pair == ["-a", "0000:3b:00.0"]));
        assert!(!list.iter().any(|argument| argument.contains("net_ring0")));
        assert!(!list.contains(&"--no-pci".to_owned()));
        assert!(list.contains(&"--lcores=0@(3,5)".to_owned()));
    }

    #[test]
    fn requiring_more_huge_pages_than_are_free_is_refused_with_the_number_to_reserve() {
        let options = EalOptions {
            huge_pages: HugePages::Require,
            memory_mb: 4_000_000,
            ..EalOptions::default()
        };
        let error = choose_huge_pages(&options).expect_err("4 TB of huge pages");
        assert!(error.to_string().contains("vm.nr_hugepages=2000000"), "{error}");
    }

    #[test]
    fn nobody_can_attach_to_ordinary_pages_and_that_is_said() {
        let options = EalOptions {
            huge_pages: HugePages::Never,
            secondary_processes: true,
            ..EalOptions::default()
        };
        let error = backing(&options).expect_err("ordinary pages");
        assert!(error.to_string().contains("set huge_pages = \"require\""), "{error}");
    }

    #[test]
    fn more_ordinary_memory_than_there_is_is_refused_before_it_is_touched() {
        let there_is = memory_available_mb().expect("this kernel says");
        assert!(check_memory(1, Some(there_is)).is_ok() && there_is < 900_000);
        let error = check_memory(900_000, Some(there_is)).expect_err("900 GB");
        let said = error.to_string();
        assert!(said.starts_with("memory_mb 900000 is more than this machine has"), "{said}");
        assert!(said.contains(&format!("{there_is} MB")) && said.contains("450000 huge pages"));
        assert!(check_memory(900_000, None).is_ok(), "nobody knows");
    }
}
