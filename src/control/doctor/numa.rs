//! Cards, workers and memory on one node: a packet that crosses between two costs twice.

use std::collections::BTreeSet;

use super::devices::DEVICES;
use super::{Findings, Needs, Tree};
use crate::control::config::cpu_list;

const AREA: &str = "NUMA";
const NODES: &str = "sys/devices/system/node";

pub(super) fn examine(tree: &Tree, needs: &Needs, findings: &mut Findings) {
    let nodes = tree.names(NODES);
    let nodes: Vec<&String> = nodes
        .iter()
        .filter(|name| {
            let number = name.strip_prefix("node").unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
        .collect();
    if nodes.len() == 1 {
        return findings.pass(AREA, "there is one node");
    }
    for card in &needs.cards {
        let Some(address) = card.pci() else { continue };
        let Some(node) = tree.number(&format!("{DEVICES}/{address}/numa_node")) else { continue };
        let own = tree.cpus(&format!("{NODES}/node{node}/cpulist"));
        let label = card.label();
        let far: BTreeSet<usize> = needs.workers.difference(&own).copied().collect();
        if far.is_empty() {
            findings.pass(AREA, format!("{label}: on node {node}, as the workers"));
        } else if !own.is_empty() {
            let said = format!(
                "{label}: on node {node}, and the workers' CPUs {} are on another",
                cpu_list(&far)
            );
            findings.warn(AREA, said, format!("name CPUs of its node: {}", cpu_list(&own)));
        }
        memory(tree, needs, (node, &label), findings);
    }
}

/// Huge pages are of use on the card's node only.
fn memory(tree: &Tree, needs: &Needs, (node, label): (u64, &str), findings: &mut Findings) {
    let folder = format!("{NODES}/node{node}/hugepages");
    let kinds = tree.names(&folder);
    if kinds.is_empty() || needs.running {
        return;
    }
    let free_kb = |kind: &String| {
        let page: u64 = kind.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(page * tree.number(&format!("{folder}/{kind}/free_hugepages"))?)
    };
    let free_mb = kinds.iter().filter_map(free_kb).sum::<u64>() >> 10;
    if free_mb < needs.memory_mb {
        let said = format!("{label}: node {node} has {free_mb} MB of huge pages free");
        let pages = (needs.memory_mb + needs.tables_mb).div_ceil(2);
        let mend = format!("echo {pages} > /{folder}/hugepages-2048kB/nr_hugepages");
        findings.warn(AREA, said, mend);
    }
}
