//! Large tables, reserved once, on pages that cost few TLB entries; and prefetching.
//!
//! A table of ten million connections spans a gigabyte. On 4 KiB pages nearly every access to it
//! misses the TLB and pays a page walk beside the cache miss; on 2 MiB pages the walk is short and
//! its tables stay cached. [`Region`] therefore tries, in order:
//!
//! 1. reserved huge pages (`MAP_HUGETLB`): they exist or they do not, no surprise later;
//! 2. ordinary memory aligned so that the kernel can back it by transparent huge pages;
//! 3. ordinary memory as it comes.
//!
//! All of it is faulted in before [`Region::new`] returns: the packet path never enters the kernel
//! for a page. What a region got is reported ([`Region::pages`]), never guessed by the reader.
//!
//! The elements start as zero bytes, which [`FromZeros`] says is a value of the type; a gigabyte
//! is not written twice.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use zerocopy::FromZeros;

/// Size of a huge page on x86-64, as reserved by `vm.nr_hugepages`.
pub const HUGE_PAGE: usize = 2 << 20;
/// Size of an ordinary page on x86-64; no element may ask for a stricter alignment.
const SMALL_PAGE: usize = 4096;
/// Below this a huge page would be mostly waste.
const HUGE_FROM: usize = HUGE_PAGE / 2;

/// Whether memory comes from huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Use them when enough are free, ordinary pages otherwise.
    #[default]
    Auto,
    /// Fail without.
    Require,
    /// Do not use reserved huge pages.
    Never,
}

/// What a [`Region`] lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Reserved huge pages.
    Huge,
    /// Ordinary memory which the kernel was asked, and is set, to back by huge pages where it can.
    Transparent,
    /// Ordinary pages.
    Small,
}

impl std::fmt::Display for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Huge => "2 MiB pages",
            Self::Transparent => "transparent huge pages",
            Self::Small => "4 KiB pages",
        })
    }
}

/// Memory could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The element count times the element size does not fit the address space.
    #[error("a table of {length} elements of {size} bytes is larger than the address space")]
    TooLarge {
        /// Elements asked for.
        length: usize,
        /// Bytes of one.
        size: usize,
    },
    /// Huge pages were required and are not there.
    #[error(
        "no {bytes} bytes of huge pages ({pages} x 2 MiB) to be had: {source}; reserve more with \
         `sysctl vm.nr_hugepages=N` or set `huge_pages = \"auto\"`"
    )]
    NoHugePages {
        /// Bytes asked for, rounded up.
        bytes: usize,
        /// The same in pages.
        pages: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not even ordinary memory.
    #[error("no {bytes} bytes of memory to be had: {source}; ask for smaller tables")]
    NoMemory {
        /// Bytes asked for, rounded up.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A fixed number of `T`s, zero at first, all of it resident, aligned to at least a page.
///
/// Dereferences to `[T]`. Elements are not dropped; the memory is returned when the region is.
pub struct Region<T> {
    start: NonNull<T>,
    length: usize,
    map: Map,
}

impl<T> std::fmt::Debug for Region<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Region");
        out.field("length", &self.length).field("map", &self.map).finish_non_exhaustive()
    }
}

// SAFETY: a region owns its mapping alone, as a `Box<[T]>` owns its heap block; moving it to
// another thread moves the `T`s, which `T: Send` allows.
unsafe impl<T: Send> Send for Region<T> {}
// SAFETY: `&Region<T>` gives out nothing but `&[T]` and plain numbers.
unsafe impl<T: Sync> Sync for Region<T> {}

impl<T: FromZeros> Region<T> {
    /// Reserves `length` elements: on huge pages if there are enough, else on ordinary ones.
    pub fn new(length: usize) -> Result<Self, MemoryError> {
        Self::on(length, HugePages::Auto)
    }

    /// Reserves `length` elements on the pages `huge` says. Regions under 1 MiB always lie on
    /// ordinary pages: a huge page would be mostly waste.
    pub fn on(length: usize, huge: HugePages) -> Result<Self, MemoryError> {
        const { assert!(align_of::<T>() <= SMALL_PAGE, "elements align to a page at most") };
        let size = size_of::<T>();
        let too_large = || MemoryError::TooLarge { length, size };
        let bytes = length.checked_mul(size).ok_or_else(too_large)?;
        if bytes > isize::MAX.cast_unsigned() - 2 * HUGE_PAGE {
            return Err(too_large());
        }
        let map = Map::new(bytes, huge)?;
        Ok(Self { start: map.start.cast(), length, map })
    }
}

impl<T> Region<T> {
    /// Bytes of memory reserved, rounding included.
    pub fn bytes(&self) -> usize {
        self.map.bytes
    }

    /// What it lies on.
    pub fn pages(&self) -> Pages {
        self.map.pages
    }
}

impl<T> Deref for Region<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping is at least `length` elements long, page-aligned, lives as long as
        // `self`, and zeros are `T`s (`T: FromZeros` at construction).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for Region<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

/// An anonymous mapping, unmapped on drop.
#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    bytes: usize,
    pages: Pages,
}

impl Map {
    fn new(bytes: usize, huge: HugePages) -> Result<Self, MemoryError> {
        if bytes < HUGE_FROM {
            return Self::small(bytes.max(1).next_multiple_of(SMALL_PAGE));
        }
        let bytes = bytes.next_multiple_of(HUGE_PAGE);
        match huge {
            HugePages::Never => Self::small(bytes),
            HugePages::Auto => Self::huge(bytes).or_else(|_| Self::aligned(bytes)),
            HugePages::Require => Self::huge(bytes).map_err(|source| MemoryError::NoHugePages {
                bytes,
                pages: bytes / HUGE_PAGE,
                source,
            }),
        }
    }

    fn huge(bytes: usize) -> io::Result<Self> {
        // The mapping reserves all its pages or fails; populating then cannot run short.
        let start = map(bytes, libc::MAP_HUGETLB | libc::MAP_HUGE_2MB | libc::MAP_POPULATE)?;
        Ok(Self { start, bytes, pages: Pages::Huge })
    }

    fn small(bytes: usize) -> Result<Self, MemoryError> {
        let start = map(bytes, 0).map_err(|source| MemoryError::NoMemory { bytes, source })?;
        let this = Self { start, bytes, pages: Pages::Small };
        this.populate()?;
        Ok(this)
    }

    /// Ordinary memory that starts on a huge page boundary: maps one page more and gives the ends
    /// back.
    fn aligned(bytes: usize) -> Result<Self, MemoryError> {
        let start =
            map(bytes + HUGE_PAGE, 0).map_err(|source| MemoryError::NoMemory { bytes, source })?;
        let head = start.align_offset(HUGE_PAGE);
        unmap(start, head);
        // SAFETY: `head` is below `HUGE_PAGE`: inside the mapping just made.
        let start = unsafe { start.add(head) };
        // SAFETY: `head + bytes` is at most the mapping's length.
        let tail = unsafe { start.add(bytes) };
        unmap(tail, HUGE_PAGE - head);
        let mut this = Self { start, bytes, pages: Pages::Small };
        if transparent_pages_allowed() && this.advise(libc::MADV_HUGEPAGE).is_ok() {
            this.pages = Pages::Transparent;
        }
        this.populate()?;
        Ok(this)
    }

    /// Faults every page in. Kernels before 5.14 do not know the advice: there each page is
    /// written to, and running short is the OOM killer's business.
    fn populate(&self) -> Result<(), MemoryError> {
        match self.advise(libc::MADV_POPULATE_WRITE) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                self.touch();
                Ok(())
            }
            Err(source) => Err(MemoryError::NoMemory { bytes: self.bytes, source }),
            Ok(()) => Ok(()),
        }
    }

    fn touch(&self) {
        for offset in (0..self.bytes).step_by(SMALL_PAGE) {
            // SAFETY: `offset` is below the mapping's length.
            let byte = unsafe { self.start.add(offset) };
            // SAFETY: the mapping is writable and nobody else has its address yet.
            unsafe { byte.write_volatile(0) };
        }
    }

    fn advise(&self, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: the range is this mapping, and both advices used keep its contents.
        let result = unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes, advice) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        unmap(self.start, self.bytes);
    }
}

/// Could `bytes` of reserved huge pages, of either size, be had now? Reserves them and lets go.
pub(super) fn huge_pages_free(bytes: usize) -> bool {
    [(libc::MAP_HUGE_2MB, HUGE_PAGE), (libc::MAP_HUGE_1GB, 1 << 30)].into_iter().any(
        |(flag, page)| {
            let bytes = bytes.max(1).next_multiple_of(page);
            let start = map(bytes, libc::MAP_HUGETLB | flag);
            start.map(|start| unmap(start, bytes)).is_ok()
        },
    )
}

/// Maps `bytes` of zeroed private memory.
fn map(bytes: usize, flags: libc::c_int) -> io::Result<NonNull<u8>> {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that
    // exists.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
    match NonNull::new(start.cast::<u8>()) {
        Some(place) if start != libc::MAP_FAILED => Ok(place),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Unmaps part of a mapping made by [`map`] that nothing points into any more.
fn unmap(start: NonNull<u8>, bytes: usize) {
    if bytes > 0 {
        // SAFETY: all callers own the range and have told nobody of it, or are its `drop`.
        unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
    }
}

/// Is the kernel set to honour `MADV_HUGEPAGE`?
fn transparent_pages_allowed() -> bool {
    std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|setting| !setting.contains("[never]"))
}

/// Asks the CPU to fetch the cache line `place` begins in, for reading. No effect on correctness.
#[inline(always)]
pub fn prefetch<T>(place: &T) {
    prefetch_address(std::ptr::from_ref(place));
}

/// [`prefetch`] for a place there may be no reference to.
#[inline(always)]
pub(super) fn prefetch_address<T>(place: *const T) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: prefetching reads no value and cannot fault, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) }
}

/// Asks the CPU to fetch the cache line `place` begins in, for writing. No effect on correctness.
#[inline(always)]
pub fn prefetch_write<T>(place: &T) {
    use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
    // SAFETY: prefetching writes no value and cannot fault, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_ET0>(std::ptr::from_ref(place).cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[derive(FromZeros)]
    #[repr(C, align(64))]
    struct Line([u64; 8]);

    fn region(length: usize, huge: HugePages) -> Region<Line> {
        Region::on(length, huge).expect("memory for a test")
    }

    #[test]
    fn a_region_is_zero_and_aligned_to_a_cache_line_on_every_kind_of_page() {
        for (length, huge) in [
            (1, HugePages::Auto),
            (3, HugePages::Never),
            (70_000, HugePages::Never),
            (70_000, HugePages::Auto),
        ] {
            let region = region(length, huge);
            assert_eq!(region.len(), length);
            assert_eq!(region.as_ptr().addr() % 64, 0);
            assert!(region.iter().all(|line| line.0 == [0; 8]));
        }
    }

    #[test]
    fn what_is_written_to_a_region_is_read_back_from_it() {
        let mut region = region(70_000, HugePages::Auto);
        for (i, line) in region.iter_mut().enumerate() {
            line.0 = [i as u64; 8];
        }
        assert!(region.iter().enumerate().all(|(i, line)| line.0 == [i as u64; 8]));
    }

    #[test]
    fn transparent_and_touched_mappings_are_aligned_and_zero() {
        let map = Map::aligned(2 * HUGE_PAGE).expect("memory for a test");
        assert_eq!(map.start.as_ptr().addr() % HUGE_PAGE, 0);
        assert_ne!(map.pages, Pages::Huge);
        map.touch();
        // SAFETY: the mapping is `2 * HUGE_PAGE` bytes of initialised (zero) memory.
        let bytes = unsafe { std::slice::from_raw_parts(map.start.as_ptr(), map.bytes) };
        assert!(bytes.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn every_page_is_resident_before_the_first_access() {
        let region = region(70_000, HugePages::Never);
        let mut resident = vec![0_u8; region.bytes() / SMALL_PAGE];
        let start = region.as_ptr().cast_mut().cast();
        // SAFETY: the vector has one byte per page of the region.
        let result = unsafe { libc::mincore(start, region.bytes(), resident.as_mut_ptr()) };
        assert_eq!(result, 0);
        assert!(resident.iter().all(|&page| page & 1 == 1));
    }

    #[test]
    fn the_bytes_reported_are_whole_pages_of_the_kind_reported() {
        let small = region(1, HugePages::Auto);
        assert_eq!((small.bytes(), small.pages()), (SMALL_PAGE, Pages::Small));
        let large = region(40_000, HugePages::Never);
        assert_eq!((large.bytes(), large.pages()), (2 * HUGE_PAGE, Pages::Small));
    }

    #[test]
    fn an_empty_region_is_an_empty_slice() {
        assert!(region(0, HugePages::Auto).is_empty());
    }

    #[test]
    fn a_region_beyond_the_address_space_is_refused_with_both_numbers() {
        let error = Region::<Line>::new(usize::MAX / 2).expect_err("no such memory");
        assert!(error.to_string().contains("elements of 64 bytes"), "{error}");
    }

    #[test]
    fn requiring_more_huge_pages_than_exist_says_how_to_reserve_them() {
        let error = Region::<Line>::on(1 << 36, HugePages::Require).expect_err("4 TiB");
        assert!(error.to_string().contains("vm.nr_hugepages"), "{error}");
    }

    #[test]
    fn prefetching_changes_nothing() {
        let line = Line([7; 8]);
        prefetch(&line);
        prefetch_write(&line);
        assert_eq!(line.0, [7; 8]);
    }
}
