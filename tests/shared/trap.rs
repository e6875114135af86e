//! Every write to memory that several workers share, seen and counted.
//!
//! ```text
//! allocated while sharing ─► arena ┐
//! mapped while sharing ────────────┴─► read-only while counting
//!
//! write ─► SIGSEGV: noted; the page is made writable, the instruction runs alone (trap flag)
//!       ─► SIGTRAP: the page is read-only again
//! ```
//!
//! So a write counts even if it changes nothing (a claim taken and given back), and one that nobody has
//! thought of counts too. One thread counts at a time; x86-64 Linux only, as the balancer is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const PAGE: usize = 4096;
/// Bytes of the arena: loads alone are four million.
const ARENA: usize = 256 << 20;
/// Writes remembered.
const MOST: usize = 1 << 16;
/// Pages one instruction may write.
const AT_ONCE: usize = 4;
/// Mappings made while sharing.
const MAPPINGS: usize = 64;
/// The CPU's trap flag: stop after one instruction.
const TRAP: i64 = 1 << 8;

static BASE: AtomicUsize = AtomicUsize::new(0);
static USED: AtomicUsize = AtomicUsize::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static WRITES: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];
static OPEN: [AtomicUsize; AT_ONCE] = [const { AtomicUsize::new(0) }; AT_ONCE];
/// Starts and ends.
static MAPPED: [[AtomicUsize; 2]; MAPPINGS] =
    [const { [const { AtomicUsize::new(0) }; 2] }; MAPPINGS];

thread_local! {
    static SHARING: Cell<bool> = const { Cell::new(false) };
    static BEFORE: Cell<Vec<[usize; 2]>> = const { Cell::new(Vec::new()) };
}

/// Puts into the arena what is allocated while sharing.
struct Sorting;

#[global_allocator]
static ALLOCATOR: Sorting = Sorting;

#[expect(unsafe_code, reason = "an allocator can only be written so")]
// SAFETY: from the arena every allocation is a piece of its own, aligned, and never given back;
// everything else is the system's.
unsafe impl GlobalAlloc for Sorting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !SHARING.get() {
            // SAFETY: the caller's promises are passed on.
            return unsafe { System.alloc(layout) };
        }
        // A line at least, so that nothing else shares it.
        let align = layout.align().max(64);
        let size = layout.size() + align;
        let at = base() + USED.fetch_add(size, Relaxed);
        assert!(at + size <= base() + ARENA, "the arena is too small");
        at.next_multiple_of(align) as *mut u8
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if !is_in_arena(place as usize) {
            // SAFETY: it came from there.
            unsafe { System.dealloc(place, layout) }
        }
    }
}

fn base() -> usize {
    let base = BASE.load(Relaxed);
    if base != 0 {
        return base;
    }
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    #[expect(unsafe_code, reason = "memory of the test's own")]
    // SAFETY: a new mapping, wherever there is room.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), ARENA, protection, flags, -1, 0) };
    assert!(start != libc::MAP_FAILED, "no room for the arena");
    BASE.store(start as usize, Relaxed);
    start as usize
}

fn is_in_arena(address: usize) -> bool {
    let base = BASE.load(Relaxed);
    base != 0 && (base..base + ARENA).contains(&address)
}

fn is_shared(address: usize) -> bool {
    is_in_arena(address) || mapped().any(|[start, end]| (start..end).contains(&address))
}

fn mapped() -> impl Iterator<Item = [usize; 2]> {
    let all = MAPPED.iter().map(|[start, end]| [start.load(Relaxed), end.load(Relaxed)]);
    all.take_while(|[start, _]| *start != 0)
}

/// What is allocated or mapped from now on is shared, or no longer.
pub(crate) fn sharing(is_on: bool) {
    if is_on {
        // What looking allocates goes there too, so that the system's heap does not grow meanwhile.
        SHARING.set(true);
        BEFORE.set(writable());
        return;
    }
    let (before, now) = (BEFORE.take(), writable());
    SHARING.set(false);
    for [start, end] in now {
        let mut start = start;
        for [old_start, old_end] in before.iter().copied() {
            if old_end <= start {
                continue;
            }
            if old_start >= end {
                break;
            }
            note_mapping(start, old_start.min(end));
            start = old_end;
        }
        note_mapping(start, end);
    }
}

/// What was mapped so far has been given back.
pub(crate) fn forget_mappings() {
    MAPPED.iter().flatten().for_each(|at| at.store(0, Relaxed));
}

/// A mapping nobody had before.
fn note_mapping(start: usize, end: usize) {
    if start < end && !is_in_arena(start) {
        let free = MAPPED.iter().find(|[start, _]| start.load(Relaxed) == 0);
        let [start_of, end_of] = free.expect("room for another mapping");
        start_of.store(start, Relaxed);
        end_of.store(end, Relaxed);
    }
}

/// Anonymous writable mappings, ascending, but for heap and stacks.
fn writable() -> Vec<[usize; 2]> {
    let text = std::fs::read_to_string("/proc/self/maps").expect("readable");
    let ranges = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (range, rights, name) = (words.next()?, words.next()?, words.nth(3));
        let (start, end) = range.split_once('-')?;
        let range = [start, end].map(|at| usize::from_str_radix(at, 16).expect("an address"));
        (rights.starts_with("rw") && name.is_none()).then_some(range)
    });
    ranges.collect()
}

/// The lines of shared memory that were written while `work` ran, a number for each write.
pub(crate) fn writes(work: impl FnOnce()) -> Vec<usize> {
    install();
    COUNT.store(0, Relaxed);
    protect_all(libc::PROT_READ);
    work();
    protect_all(libc::PROT_READ | libc::PROT_WRITE);
    let count = COUNT.load(Relaxed);
    assert!(count <= MOST, "{count} writes, {MOST} are remembered");
    WRITES[..count].iter().map(|line| line.load(Relaxed)).collect()
}

fn protect_all(protection: c_int) {
    protect(base(), ARENA, protection);
    for [start, end] in mapped() {
        protect(start, end - start, protection);
    }
}

fn protect(start: usize, length: usize, protection: c_int) {
    #[expect(unsafe_code, reason = "what is written to is made to fault")]
    // SAFETY: memory of tables, which nothing but the code under test writes to; a write to what is
    // read-only comes back here.
    let result = unsafe { libc::mprotect(start as *mut c_void, length, protection) };
    assert!(result == 0, "the protection of memory cannot be changed");
}

fn install() {
    for (signal, handler) in [(libc::SIGSEGV, on_write as Handler), (libc::SIGTRAP, on_step)] {
        #[expect(unsafe_code, reason = "a signal's handler")]
        // SAFETY: zeros are a valid set of signals and flags.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO;
        #[expect(unsafe_code, reason = "a signal's handler")]
        // SAFETY: the handler has the form that SA_SIGINFO asks for.
        let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        assert!(result == 0, "no handler for a signal");
    }
}

type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// A write to what is read-only: it is noted, and may happen.
extern "C" fn on_write(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    #[expect(unsafe_code, reason = "a signal's handler")]
    // SAFETY: the kernel's account of the signal, until the handler returns.
    let info = unsafe { &*info };
    #[expect(unsafe_code, reason = "a signal's handler")]
    // SAFETY: this signal's account has an address: where the fault was.
    let address = unsafe { info.si_addr() } as usize;
    if !is_shared(address) {
        // A fault of its own: let it happen again, and end the program.
        #[expect(unsafe_code, reason = "a signal's handler")]
        // SAFETY: no memory is touched.
        unsafe {
            libc::signal(signal, libc::SIG_DFL)
        };
        return;
    }
    let count = COUNT.fetch_add(1, Relaxed);
    if let Some(place) = WRITES.get(count) {
        place.store(address / 64, Relaxed);
    }
    let page = address / PAGE * PAGE;
    if let Some(open) = OPEN.iter().find(|open| open.load(Relaxed) == 0) {
        open.store(page, Relaxed);
    }
    protect(page, PAGE, libc::PROT_READ | libc::PROT_WRITE);
    set_trap(context, true);
}

/// The instruction has run: the page is closed again.
extern "C" fn on_step(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    for open in &OPEN {
        let page = open.swap(0, Relaxed);
        if page != 0 {
            protect(page, PAGE, libc::PROT_READ);
        }
    }
    set_trap(context, false);
}

fn set_trap(context: *mut c_void, is_on: bool) {
    let context = context.cast::<libc::ucontext_t>();
    let register = libc::REG_EFL as usize;
    #[expect(unsafe_code, reason = "a signal's handler")]
    // SAFETY: the kernel's copy of the thread's registers, ours to change until the handler returns.
    let flags = unsafe { &mut (*context).uc_mcontext.gregs[register] };
    *flags = if is_on { *flags | TRAP } else { *flags & !TRAP };
}
