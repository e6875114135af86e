//! What a configuration may assume of the machine it is for: which CPUs there are.

use std::collections::BTreeSet;
use std::fs;

/// CPUs the kernel runs on this machine.
const ONLINE: &str = "/sys/devices/system/cpu/online";
/// CPUs this control group (a container, usually) may use; absent outside version 2.
const CONTAINER: &str = "/sys/fs/cgroup/cpuset.cpus.effective";

/// No kernel has so many.
const CPUS_MAX: usize = 1 << 16;

/// What is done about a CPU that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingCpu {
    /// The configuration is refused: it is about to be used here.
    Refuse,
    /// A warning: the file is only looked at, and meant for another machine.
    Warn,
}

/// The machine a configuration is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its CPUs; `None` if they could not be found out, and then every CPU is believed.
    pub cpus: Option<BTreeSet<usize>>,
    /// What is done about a worker on another CPU.
    pub missing_cpu: MissingCpu,
    /// Is it this one? Then programs of checks are looked for.
    pub is_here: bool,
}

impl Machine {
    /// This machine. Affinity masks are not looked at: a pinned thread of a daemon that reloads
    /// would see only its own CPU, and workers pin themselves whatever mask they inherit.
    pub fn here() -> Self {
        let online = cpus_of(ONLINE);
        let cpus = match (online, cpus_of(CONTAINER)) {
            (Some(online), Some(allowed)) => Some(online.intersection(&allowed).copied().collect()),
            (online, _) => online,
        };
        Self { cpus, missing_cpu: MissingCpu::Refuse, is_here: true }
    }

    /// Some machine with CPUs 0 to `count - 1`.
    pub fn with_cpus(count: usize) -> Self {
        let cpus = Some((0..count).collect());
        Self { cpus, missing_cpu: MissingCpu::Refuse, is_here: false }
    }

    /// Another machine than this: missing CPUs are only warned of, programs not looked for.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        (self.missing_cpu, self.is_here) = (MissingCpu::Warn, false);
        self
    }

    /// Is there such a CPU, as far as is known?
    pub(super) fn has_cpu(&self, cpu: usize) -> bool {
        self.cpus.as_ref().is_none_or(|cpus| cpus.contains(&cpu))
    }

    /// What is said of a CPU it does not have.
    pub fn no_cpu(&self, what: &str, cpu: usize) -> String {
        let there = self.cpus.as_ref().map(cpu_list).unwrap_or_default();
        format!("{what} CPU {cpu} does not exist; CPUs here: {there}")
    }
}

/// CPUs in the kernel's notation.
pub fn cpu_list(cpus: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let one = |&(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(",")
}

fn cpus_of(path: &str) -> Option<BTreeSet<usize>> {
    parse_cpu_list(fs::read_to_string(path).ok()?.trim())
}

/// The kernel's list notation: `0-3,8`. `None` if it is empty or not one.
pub fn parse_cpu_list(text: &str) -> Option<BTreeSet<usize>> {
    let mut cpus = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let last = last.parse::<usize>().ok().filter(|last| *last < CPUS_MAX)?;
        cpus.extend(first.parse::<usize>().ok()?..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read_and_written_in_the_kernels_notation() {
        for (text, cpus) in [("0", vec![0]), ("0-3,8", vec![0, 1, 2, 3, 8]), ("1,3", vec![1, 3])] {
            let read = parse_cpu_list(text).unwrap();
            assert_eq!(read.iter().copied().collect::<Vec<_>>(), cpus);
            assert_eq!(cpu_list(&read), text);
        }
        assert_eq!(parse_cpu_list(""), None);
        assert_eq!(parse_cpu_list("0-"), None);
        assert_eq!(parse_cpu_list("0-99999999999"), None);
    }

    #[test]
    fn this_machine_has_at_least_one_cpu() {
        assert!(!Machine::here().cpus.unwrap().is_empty());
    }
}
