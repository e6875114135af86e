//! The workers' CPUs: there, and theirs alone.
//!
//! A worker polls around the clock. Whatever else runs on its core, a program, a timer tick, an
//! interrupt, the other half of the core, is time in which no packet moves.

use std::collections::BTreeSet;

use super::{Findings, Needs, OLD_CPU, Tree};
use crate::control::config::{Machine, MissingCpu, cpu_list, parse_cpu_list};

const CPUS: &str = "sys/devices/system/cpu";

/// What the programs are built for.
pub(super) fn features(tree: &Tree, findings: &mut Findings) {
    let Some(flags) = flags(tree) else { return };
    let missing: Vec<&str> =
        ["avx2", "bmi2"].into_iter().filter(|it| !flags.contains(*it)).collect();
    if missing.is_empty() {
        return findings.pass("CPU", "it has AVX2 and BMI2");
    }
    findings.fail("CPU", OLD_CPU, "");
}

/// What `/proc/cpuinfo` says that the first CPU can do.
pub(super) fn flags(tree: &Tree) -> Option<BTreeSet<String>> {
    let text = tree.read("proc/cpuinfo")?;
    let line = text.lines().find(|line| line.starts_with("flags"))?;
    let flags = line.split_once(':')?.1;
    Some(flags.split_whitespace().map(str::to_owned).collect())
}

pub(super) fn examine(tree: &Tree, needs: &Needs, findings: &mut Findings) {
    if needs.workers.is_empty() || !tree.has(CPUS) {
        return;
    }
    there(tree, needs, findings);
    quiet(tree, needs, findings);
    siblings(tree, needs, findings);
    governor(tree, needs, findings);
    interrupts(tree, needs, findings);
}

fn there(tree: &Tree, needs: &Needs, findings: &mut Findings) {
    let Some(online) = tree.online() else { return };
    let workers = needs.workers.iter().map(|cpu| ("worker", *cpu));
    let all = workers.chain(needs.control_core.map(|cpu| ("control_core", cpu)));
    let mut missing = all.filter(|(_, cpu)| !online.contains(cpu));
    if let Some((what, cpu)) = missing.next() {
        let machine =
            Machine { cpus: Some(online), missing_cpu: MissingCpu::Refuse, is_here: false };
        return findings.fail("cores", machine.no_cpu(what, cpu), "lscpu -e, and name others");
    }
    findings.pass("cores", format!("{} of the workers are there", cpus(&needs.workers)));
    if let Some(cpu) = needs.control_core.filter(|cpu| needs.workers.contains(cpu)) {
        let said = format!("control_core {cpu} is a worker's CPU too: each waits for the other");
        findings.warn("cores", said, "name another control_core");
    }
}

/// Isolated from the scheduler, from its tick, and from what RCU has put off.
fn quiet(tree: &Tree, needs: &Needs, findings: &mut Findings) {
    let tickless = tree.cpus(&format!("{CPUS}/nohz_full"));
    // Where the tick is off, RCU's work is elsewhere too.
    let mut unburdened = rcu_nocbs(tree);
    unburdened.extend(&tickless);
    let list = cpu_list(&needs.workers);
    let line = format!("isolcpus={list} nohz_full={list} rcu_nocbs={list}");
    let rows = [
        ("isolated cores", tree.cpus(&format!("{CPUS}/isolated")), "other programs may run on"),
        ("nohz_full", tickless, "the scheduler's tick interrupts"),
        ("rcu_nocbs", unburdened, "RCU's callbacks run on"),
    ];
    for (area, good, what) in rows {
        let bad: BTreeSet<usize> = needs.workers.difference(&good).copied().collect();
        if bad.is_empty() {
            findings.pass(area, format!("of all of the workers' {}", cpus(&needs.workers)));
        } else {
            let mend = format!("add to the kernel's command line and boot: {line}");
            findings.warn(area, format!("{what} the workers' {}", cpus(&bad)), mend);
        }
    }
}

fn rcu_nocbs(tree: &Tree) -> BTreeSet<usize> {
    let line = tree.read("proc/cmdline").unwrap_or_default();
    let mut words = line.split_whitespace();
    let list = words.find_map(|word| word.strip_prefix("rcu_nocbs="));
    list.and_then(parse_cpu_list).unwrap_or_default()
}

/// Two CPUs of one core share all it has but registers.
fn siblings(tree: &Tree, needs: &Needs, findings: &mut Findings) {
    const AREA: &str = "hyper-threads";
    let mut shared = BTreeSet::new();
    let mut known = false;
    for cpu in &needs.workers {
        let own = tree.cpus(&format!("{CPUS}/cpu{cpu}/topology/thread_siblings_list"));
        known |= !own.is_empty();
        shared.extend(own.into_iter().filter(|other| other != cpu).map(|other| (*cpu, other)));
    }
    if let Some((cpu, other)) = shared.iter().find(|(_, other)| needs.workers.contains(other)) {
        let said = format!("the workers on CPU {cpu} and CPU {other} share one core");
        findings.warn(AREA, said, "lscpu -e, and name CPUs of different cores");
    } else if !shared.is_empty() {
        let others: BTreeSet<usize> = shared.iter().map(|(_, other)| *other).collect();
        let said =
            format!("workers share their cores with {}, where others may run", cpus(&others));
        let off = others.iter().map(|cpu| format!("echo 0 > /{CPUS}/cpu{cpu}/online"));
        findings.warn(AREA, said, off.collect::<Vec<_>>().join(" && "));
    } else if known {
        findings.pass(AREA, "no worker shares its core");
    }
}

fn governor(tree: &Tree, needs: &Needs, findings: &mut Findings) {
    let of = |cpu: &usize| tree.read(&format!("{CPUS}/cpu{cpu}/cpufreq/scaling_governor"));
    let governors = needs.workers.iter().filter_map(|cpu| Some((*cpu, of(cpu)?)));
    let (good, bad): (Vec<_>, Vec<_>) = governors.partition(|(_, name)| name == "performance");
    if let Some((_, name)) = bad.first() {
        let bad: BTreeSet<usize> = bad.iter().map(|(cpu, _)| *cpu).collect();
        let said = format!("the governor of the workers' {} is {name}", cpus(&bad));
        let mend =
            format!("cpupower --cpu {} frequency-set --governor performance", cpu_list(&bad));
        findings.warn("governor", said, mend);
    } else if !good.is_empty() {
        findings.pass("governor", "performance on the workers' CPUs");
    }
}

/// irqbalance leaves isolated CPUs alone, and no others.
fn interrupts(tree: &Tree, needs: &Needs, findings: &mut Findings) {
    const AREA: &str = "irqbalance";
    if !tree.runs("irqbalance") {
        return findings.pass(AREA, "it does not run");
    }
    let mut left_alone = tree.cpus(&format!("{CPUS}/isolated"));
    left_alone.extend(tree.cpus(&format!("{CPUS}/nohz_full")));
    let bad: BTreeSet<usize> = needs.workers.difference(&left_alone).copied().collect();
    if bad.is_empty() {
        return findings.pass(AREA, "it leaves isolated CPUs alone");
    }
    let said = format!("it may move interrupts to the workers' {}", cpus(&bad));
    findings.warn(AREA, said, "systemctl disable --now irqbalance");
}

/// `CPU 3`, `CPUs 2-3,8`.
fn cpus(cpus: &BTreeSet<usize>) -> String {
    let plural = if cpus.len() == 1 { "" } else { "s" };
    format!("CPU{plural} {}", cpu_list(cpus))
}
