//! What the kernel allows: TAPs, locked memory, open files, neighbours.

use super::{Findings, Needs, Tree};

/// Sockets of checks and clients, devices, the rest.
const FILES_MIN: u64 = 4096;

pub(super) fn examine(tree: &Tree, needs: &Needs, findings: &mut Findings) {
    taps(tree, findings);
    limit(tree, "Max locked memory", findings, |limit| {
        let enough = limit.is_none_or(|bytes| bytes >> 20 >= needs.memory_mb);
        let said = match limit {
            None => "memlock: locked memory has no limit".to_owned(),
            Some(bytes) => format!("memlock: {} MB may be locked", bytes >> 20),
        };
        (enough, said, "ulimit -l unlimited (the unit has LimitMEMLOCK=infinity)")
    });
    limit(tree, "Max open files", findings, |limit| {
        let enough = limit.is_none_or(|files| files >= FILES_MIN);
        let said = match limit {
            None => "nofile: open files have no limit".to_owned(),
            Some(files) => format!("nofile: {files} files may be open"),
        };
        (enough, said, "ulimit -Hn 65536 (the unit has LimitNOFILE=65536)")
    });
    for (family, backends) in ["ipv4", "ipv6"].into_iter().zip(needs.backends) {
        neighbours(tree, family, backends, findings);
    }
}

fn taps(tree: &Tree, findings: &mut Findings) {
    if !tree.has("dev") {
        return;
    }
    if tree.has("dev/net/tun") {
        return findings.pass("modules", "/dev/net/tun is there");
    }
    let said = "there is no /dev/net/tun, which the ports' TAPs are made with";
    findings.fail("modules", said, "modprobe tun");
}

/// A hard limit of this process, which a daemon started here would have; `None` is none.
fn limit(
    tree: &Tree,
    name: &str,
    findings: &mut Findings,
    judge: impl Fn(Option<u64>) -> (bool, String, &'static str),
) {
    let text = tree.read("proc/self/limits").unwrap_or_default();
    let Some(line) = text.lines().find_map(|line| line.strip_prefix(name)) else { return };
    let hard = match line.split_whitespace().nth(1) {
        Some("unlimited") => None,
        Some(number) => match number.parse() {
            Ok(number) => Some(number),
            Err(_) => return,
        },
        None => return,
    };
    let (enough, said, mend) = judge(hard);
    if enough { findings.pass("limits", said) } else { findings.warn("limits", said, mend) }
}

/// Every backend on a link of this box is a neighbour the kernel must keep.
fn neighbours(tree: &Tree, family: &str, backends: usize, findings: &mut Findings) {
    let path = format!("net/{family}/neigh/default/gc_thresh3");
    let Some(most) = tree.number(&format!("proc/sys/{path}")) else { return };
    if backends as u64 <= most {
        return;
    }
    let said =
        format!("the kernel keeps {most} {family} neighbours, there are {backends} backends");
    let key = path.replace('/', ".");
    let wanted = (backends * 2).next_power_of_two();
    findings.warn("neighbours", said, format!("sysctl {key}={wanted}"));
}
