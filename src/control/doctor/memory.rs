//! Huge pages: for DPDK, on the cards' nodes, and for the connection tables beside it.

use super::{Findings, Needs, Tree};
use crate::control::config::plan::HugePages;

const AREA: &str = "huge pages";
const PAGES: &str = "sys/kernel/mm/hugepages";

/// Huge pages of one size.
struct Kind {
    page_kb: u64,
    /// Those a process could have now.
    free: u64,
    all: u64,
}

impl Kind {
    fn free_mb(&self) -> u64 {
        (self.page_kb * self.free) >> 10
    }

    fn all_mb(&self) -> u64 {
        (self.page_kb * self.all) >> 10
    }
}

pub(super) fn examine(tree: &Tree, needs: &Needs, findings: &mut Findings) {
    huge_pages(tree, needs, findings);
    hugetlbfs(tree, needs, findings);
    transparent(tree, findings);
}

fn huge_pages(tree: &Tree, needs: &Needs, findings: &mut Findings) {
    if needs.huge_pages == HugePages::Never {
        return findings.pass(AREA, "none are wanted (huge_pages = \"never\")");
    }
    let kinds = kinds(tree);
    if kinds.is_empty() {
        return;
    }
    // DPDK takes them of one size; what runs already has taken its own.
    let has = |kind: &Kind| if needs.running { kind.all_mb() } else { kind.free_mb() };
    let most = kinds.iter().map(has).max().unwrap_or(0);
    let all = needs.memory_mb + needs.tables_mb;
    let which = if needs.running { "reserved" } else { "free" };
    let reserve = |mb: u64| format!("sysctl vm.nr_hugepages={}", mb.div_ceil(2));
    if most < needs.memory_mb {
        let missing = format!("{} MB of huge pages are not {which}", needs.memory_mb);
        if needs.huge_pages == HugePages::Require {
            let said = format!("huge_pages = \"require\", but {missing}");
            return findings.fail(AREA, said, reserve(all));
        }
        let cards = needs.cards.iter().any(|card| card.pci().is_some());
        let price = if cards { "a PCI card needs them" } else { "it is slower without" };
        return findings.warn(AREA, format!("{missing}: {price}"), reserve(all));
    }
    let sum: u64 = kinds.iter().map(has).sum();
    if sum < all {
        let said = format!(
            "{sum} MB are {which}, enough for memory_mb {} and not for {} MB of connection tables \
             beside it",
            needs.memory_mb, needs.tables_mb
        );
        return findings.warn(AREA, said, reserve(all));
    }
    findings.pass(AREA, format!("{sum} MB are {which}, {all} MB are needed"));
}

/// Where huge pages have names, by which other processes find them.
fn hugetlbfs(tree: &Tree, needs: &Needs, findings: &mut Findings) {
    if !needs.secondary_processes {
        return;
    }
    let area = "hugetlbfs";
    let Some(mounts) = tree.read("proc/mounts") else { return };
    let place = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next() == Some("hugetlbfs")).then_some(place)
    });
    match place {
        Some(place) => findings.pass(area, format!("it is mounted at {place}")),
        None => findings.fail(
            area,
            "secondary_processes = true, but no hugetlbfs is mounted",
            "mkdir -p /dev/hugepages && mount -t hugetlbfs nodev /dev/hugepages",
        ),
    }
}

fn kinds(tree: &Tree) -> Vec<Kind> {
    let kind = |name: String| {
        let page_kb = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let number = |what: &str| tree.number(&format!("{PAGES}/{name}/{what}")).unwrap_or(0);
        // Pages beyond the reserved ones are made when somebody asks.
        let beyond = number("nr_overcommit_hugepages");
        let free = number("free_hugepages") + beyond.saturating_sub(number("surplus_hugepages"));
        Some(Kind { page_kb, free, all: number("nr_hugepages") + beyond })
    };
    tree.names(PAGES).into_iter().filter_map(kind).collect()
}

/// What tables fall back to when no huge pages are left.
fn transparent(tree: &Tree, findings: &mut Findings) {
    const SETTING: &str = "sys/kernel/mm/transparent_hugepage/enabled";
    let Some(setting) = tree.read(SETTING) else { return };
    let area = "transparent huge pages";
    if setting.contains("[never]") {
        let said = "they are off: tables that find no huge pages get pages of 4 KB";
        return findings.warn(area, said, format!("echo madvise > /{SETTING}"));
    }
    findings.pass(area, "tables that find no huge pages get these");
}
