//! `shunt doctor` from outside: what its page shows, exit codes, JSON.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{block, lines, shunt, text};

const PAGE: &str = include_str!("../../docs/doctor.md");

const CONFIG: &str = "[shunt]\nworkers = [2, 3]\n[dpdk]\nhuge_pages = \"require\"\n\
                      [limits]\nconnections = 1000000\n[[port]]\nname = \"wan\"\n\
                      device = \"0000:3b:00.0\"\naddresses = [\"192.0.2.1/24\"]\n";

/// The machine of the page.
fn machine(root: &Path) {
    let files = [
        ("proc/cpuinfo", "flags : avx2 bmi2 constant_tsc nonstop_tsc"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
        ("sys/bus/pci/devices/0000:3b:00.0/net/ens1f0/mtu", "1500"),
        ("sys/devices/system/cpu/online", "0-7"),
        ("sys/devices/system/cpu/isolated", "2"),
        ("sys/devices/system/cpu/nohz_full", "2-3"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
        ("dev/net/tun", ""),
    ];
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    symlink("../../drivers/ice", root.join("sys/bus/pci/devices/0000:3b:00.0/driver")).unwrap();
}

#[test]
fn the_page_shows_what_it_prints() {
    let folder = tempfile::tempdir().unwrap();
    machine(&folder.path().join("root"));
    fs::write(folder.path().join("shunt.toml"), CONFIG).unwrap();
    let output = shunt(folder.path(), "shunt doctor --root root --config shunt.toml");
    assert_eq!(text(&output.stdout), block(PAGE, "text"));
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(1), ""));
}

#[test]
fn the_pages_commands_work_on_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[shunt]\nworkers = [0]\n[dpdk]\nhuge_pages = \"never\"\n[[port]]\nname = \"a\"\n\
                  device = \"net_null0\"\naddresses = [\"192.0.2.1/24\"]\n";
    fs::write(folder.path().join("shunt.toml"), config).unwrap();
    let copied = folder.path().join("copied");
    machine(&copied);
    let lines = lines(PAGE);
    assert_eq!(lines.len(), 4);
    for line in lines {
        let output = shunt(folder.path(), &line);
        let said = text(&output.stdout);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{line}: {}", text(&output.stderr));
        assert!(said.contains("CPU") && output.stderr.is_empty(), "{line}: {said}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_a_failure_and_the_machine_is_looked_at_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    machine(&folder.path().join("root"));
    fs::write(folder.path().join("shunt.toml"), "[shunt]\nworkers = []\n").unwrap();
    for file in ["shunt.toml", "none.toml"] {
        let output = shunt(folder.path(), &format!("shunt doctor --root root --config {file}"));
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("fail  configuration"), "{said}");
        assert!(said.contains(&format!("mend: shuntd check {file}")), "{said}");
        assert!(said.contains("pass  CPU"), "{said}");
    }
    let none = shunt(folder.path(), "shunt doctor --root root");
    assert_eq!(none.status.code(), Some(0), "{}", text(&none.stdout));
    assert!(text(&none.stdout).starts_with("warn  configuration"));
    fs::create_dir_all(folder.path().join("root/etc/shunt")).unwrap();
    fs::write(folder.path().join("root/etc/shunt/shunt.toml"), CONFIG).unwrap();
    let usual = shunt(folder.path(), "shunt doctor --root root");
    assert!(text(&usual.stdout).contains("port wan"), "{}", text(&usual.stdout));
}

#[test]
fn json_has_the_worst_and_every_finding() {
    let folder = tempfile::tempdir().unwrap();
    machine(&folder.path().join("root"));
    fs::write(folder.path().join("shunt.toml"), CONFIG).unwrap();
    let output = shunt(folder.path(), "shunt doctor --json --root root --config shunt.toml");
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"], "fail");
    let findings = report["findings"].as_array().unwrap();
    let device = findings.iter().find(|finding| finding["area"] == "device").unwrap();
    assert_eq!(device["line"], 9);
    assert!(device["mend"].as_str().unwrap().starts_with("ip link set ens1f0 down"));
}
