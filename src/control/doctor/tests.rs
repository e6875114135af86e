//! Machines as folders: a good one, and what is found when something about it is changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::control::config::plan::HugePages;

/// A good machine: eight CPUs on two nodes, cards on node 0, huge pages, the workers' CPUs quiet.
const GOOD: &[(&str, &str)] = &[
    ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu avx2 bmi2 constant_tsc nonstop_tsc\n"),
    ("proc/cmdline", "BOOT_IMAGE=/vmlinuz quiet rcu_nocbs=2-3"),
    ("proc/net/dev", "Inter-|   Receive\n face |bytes\n    lo: 0 0\n  eth1: 5 5\n"),
    ("proc/net/route", "Iface Destination Gateway\neth0 00000000 0100000A\n"),
    (
        "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units\n\
         Max locked memory         unlimited            unlimited            bytes\n\
         Max open files            1024                 65536                files\n",
    ),
    ("proc/sys/net/ipv4/neigh/default/gc_thresh3", "1024"),
    ("proc/sys/net/ipv6/neigh/default/gc_thresh3", "1024"),
    ("proc/1/comm", "systemd"),
    ("proc/acpi/comm", "irqbalance"),
    ("dev/net/tun", ""),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "1024"),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "1024"),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", "0"),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages", "0"),
    ("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0"),
    ("sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "0"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
    ("proc/mounts", "proc /proc proc rw 0 0\nnodev /dev/hugepages hugetlbfs rw 0 0"),
    ("sys/devices/system/cpu/online", "0-7"),
    ("sys/devices/system/cpu/isolated", "2-3"),
    ("sys/devices/system/cpu/nohz_full", "2-3"),
    ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2"),
    ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "3"),
    ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance"),
    ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance"),
    ("sys/devices/system/node/node0/cpulist", "0-3"),
    ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "512"),
    ("sys/devices/system/node/node1/cpulist", "4-7"),
    ("sys/devices/system/node/online", "0-1"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
    ("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm"),
    ("sys/bus/pci/devices/0000:3b:00.0/numa_node", "0"),
    ("sys/bus/pci/devices/0000:3b:00.0/current_link_width", "16"),
    ("sys/bus/pci/devices/0000:3b:00.0/max_link_width", "16"),
    ("sys/bus/pci/devices/0000:3b:00.0/current_link_speed", "16.0 GT/s PCIe"),
    ("sys/bus/pci/devices/0000:3b:00.0/max_link_speed", "16.0 GT/s PCIe"),
    ("sys/kernel/iommu_groups/7/devices/0000:3b:00.0", ""),
    ("sys/class/net/eth1/operstate", "up"),
    ("sys/class/net/eth1/carrier", "1"),
    ("sys/class/net/eth1/mtu", "1500"),
];

const LINKS: &[(&str, &str)] = &[
    ("sys/bus/pci/devices/0000:3b:00.0/driver", "../../drivers/vfio-pci"),
    ("sys/bus/pci/devices/0000:3b:00.0/iommu_group", "../../../kernel/iommu_groups/7"),
];

/// A machine, with some files other than on the good one; one without text is not there.
struct Fake(tempfile::TempDir);

impl Fake {
    fn with(changes: &[(&str, &str)]) -> Self {
        let fake = Self(tempfile::tempdir().unwrap());
        for (path, text) in GOOD {
            fake.write(path, text);
        }
        for (path, target) in LINKS {
            symlink(target, fake.path(path)).unwrap();
        }
        for (path, text) in changes {
            fake.change(path, text);
        }
        fake
    }

    fn change(&self, path: &str, text: &str) {
        let whole = self.path(path);
        if text.is_empty() {
            if whole.is_dir() { fs::remove_dir_all(whole) } else { fs::remove_file(whole) }
                .unwrap();
        } else if let Some(target) = text.strip_prefix("-> ") {
            fs::create_dir_all(whole.parent().unwrap()).unwrap();
            let _ = fs::remove_file(&whole);
            symlink(target, whole).unwrap();
        } else {
            self.write(path, text);
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn examined(&self, needs: &Needs) -> Vec<Finding> {
        examine(&Tree::at(self.0.path()), needs)
    }
}

fn needs() -> Needs {
    let card = |port: &str, device: &str| CardNeed {
        port: port.into(),
        device: device.into(),
        mtu: 1500,
        line: 21,
    };
    Needs {
        workers: [2, 3].into(),
        control_core: Some(0),
        cards: vec![
            card("wan", "0000:3b:00.0"),
            card("lan", "net_af_packet0,iface=eth1"),
            card("loop", "net_null0"),
        ],
        huge_pages: HugePages::Require,
        memory_mb: 512,
        secondary_processes: true,
        tables_mb: 256,
        backends: [1024, 3],
        running: false,
    }
}

fn not_good(findings: Vec<Finding>) -> Vec<Finding> {
    findings.into_iter().filter(|finding| finding.verdict != Verdict::Pass).collect()
}

/// The one thing that is not good, as `verdict area: said; to mend it: mend`.
fn one(findings: Vec<Finding>) -> String {
    match not_good(findings).as_slice() {
        [one] => format!("{} {}: {}", one.verdict, one.area, one.sentence()),
        others => format!("{} findings: {others:#?}", others.len()),
    }
}

#[test]
fn on_a_good_machine_all_is_well_and_everything_was_looked_at() {
    let findings = Fake::with(&[]).examined(&needs());
    assert_eq!(not_good(findings.clone()), []);
    let areas: Vec<&str> = findings.iter().map(|finding| finding.area).collect();
    let expected = [
        "CPU",
        "huge pages",
        "hugetlbfs",
        "transparent huge pages",
        "device",
        "IOMMU",
        "device",
        "link",
        "cores",
        "isolated cores",
        "nohz_full",
        "rcu_nocbs",
        "hyper-threads",
        "governor",
        "irqbalance",
        "NUMA",
        "clock",
        "modules",
        "limits",
        "limits",
    ];
    assert_eq!(areas, expected);
}

#[expect(clippy::too_many_lines, reason = "a table: one row for each thing that is looked at")]
#[test]
fn what_is_changed_is_found_with_the_command_that_mends_it() {
    const CARD: &str = "sys/bus/pci/devices/0000:3b:00.0";
    const PAGES: &str = "sys/kernel/mm/hugepages/hugepages-2048kB";
    let card = |file: &str| format!("{CARD}/{file}");
    let pages = |file: &str| format!("{PAGES}/{file}");
    let rows: [(&[(&str, &str)], &str); 31] = [
        (
            &[("proc/cpuinfo", "flags : avx2 constant_tsc nonstop_tsc")],
            "fail CPU: this CPU lacks AVX2 or BMI2: shuntd needs x86-64-v3 (2013 or later)",
        ),
        (
            &[(&pages("free_hugepages"), "255")],
            "fail huge pages: huge_pages = \"require\", but 512 MB of huge pages are not free; to \
             mend it: sysctl vm.nr_hugepages=384",
        ),
        (
            &[(&pages("free_hugepages"), "383")],
            "warn huge pages: 766 MB are free, enough for memory_mb 512 and not for 256 MB of \
             connection tables beside it; to mend it: sysctl vm.nr_hugepages=384",
        ),
        (
            &[("proc/mounts", "tmpfs /hugetlbfs tmpfs rw 0 0")],
            "fail hugetlbfs: secondary_processes = true, but no hugetlbfs is mounted; to mend it: \
             mkdir -p /dev/hugepages && mount -t hugetlbfs nodev /dev/hugepages",
        ),
        (
            &[("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]")],
            "warn transparent huge pages: they are off: tables that find no huge pages get pages of \
             4 KB; to mend it: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        (
            &[(&card("driver"), "-> ../../drivers/uio_pci_generic")],
            "warn IOMMU: port wan (0000:3b:00.0): with uio_pci_generic no IOMMU keeps the card to \
             DPDK's memory; to mend it: modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci \
             0000:3b:00.0",
        ),
        (
            &[(&card("driver"), "")],
            "fail device: port wan (0000:3b:00.0): no driver has it; to mend it: modprobe vfio-pci \
             && dpdk-devbind.py --bind=vfio-pci 0000:3b:00.0",
        ),
        (
            &[(&card("driver"), "-> ../../drivers/virtio-pci")],
            "fail device: port wan (0000:3b:00.0): the kernel's virtio-pci has it; to mend it: \
             modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci 0000:3b:00.0",
        ),
        (
            &[(&card("driver"), "-> ../../drivers/ice"), (&card("net/ens1/mtu"), "1500")],
            "fail device: port wan (0000:3b:00.0): the kernel's ice has it, as ens1; to mend it: ip \
             link set ens1 down && modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci 0000:3b:00.0",
        ),
        (
            &[(&card("driver"), "-> ../../drivers/ice"), (&card("net/eth0/mtu"), "1500")],
            "fail device: port wan (0000:3b:00.0): the kernel's ice has it, as eth0. The default \
             route goes through it: do not take the card you are logged in through; to mend it: ip \
             link set eth0 down && modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci 0000:3b:00.0",
        ),
        (
            &[(CARD, "")],
            "fail device: port wan (0000:3b:00.0): there is no PCI device 0000:3b:00.0 here; to \
             mend it: dpdk-devbind.py --status-dev net, and name one of these",
        ),
        (
            &[("proc/net/dev", "lo: 0")],
            "fail device: port lan (net_af_packet0,iface=eth1): there is no interface eth1 here; to \
             mend it: ip -brief link show, and name one of these",
        ),
        (
            &[(&card("iommu_group"), "")],
            "fail IOMMU: port wan (0000:3b:00.0): it is behind no IOMMU; to mend it: boot with \
             intel_iommu=on iommu=pt (Intel) or iommu=pt (AMD)",
        ),
        (
            &[
                (&card("iommu_group"), ""),
                ("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y"),
            ],
            "warn IOMMU: port wan (0000:3b:00.0): no IOMMU keeps the card to DPDK's memory; to mend \
             it: boot with intel_iommu=on iommu=pt (Intel) or iommu=pt (AMD)",
        ),
        (
            &[
                ("sys/kernel/iommu_groups/7/devices/0000:3b:00.1", "x"),
                ("sys/bus/pci/devices/0000:3b:00.1/driver", "-> ../../drivers/ice"),
            ],
            "fail IOMMU: port wan (0000:3b:00.0): its group 7 has 0000:3b:00.1 in it, which the \
             kernel's ice has; to mend it: dpdk-devbind.py --bind=vfio-pci 0000:3b:00.1",
        ),
        (
            &[("sys/class/net/eth1/carrier", "0")],
            "warn link: port lan (net_af_packet0,iface=eth1): eth1 has no link; to mend it: ethtool \
             eth1, and the cable",
        ),
        (
            &[("sys/class/net/eth1/carrier", ""), ("sys/class/net/eth1/operstate", "down")],
            "warn link: port lan (net_af_packet0,iface=eth1): eth1 is down; to mend it: ip link set \
             eth1 up",
        ),
        (
            &[("sys/class/net/eth1/mtu", "1400")],
            "warn link: port lan (net_af_packet0,iface=eth1): the MTU of eth1 is 1400, that of the \
             port 1500: longer packets are lost; to mend it: ip link set eth1 mtu 1500",
        ),
        (
            &[(&card("current_link_width"), "4")],
            "warn link: port wan (0000:3b:00.0): it is on the bus with 4 lanes of 16 lanes; to mend \
             it: lspci -vv -s 0000:3b:00.0, and another slot",
        ),
        (
            &[("sys/devices/system/cpu/online", "0-2")],
            "fail cores: worker CPU 3 does not exist; CPUs here: 0-2; to mend it: lscpu -e, and name \
             others",
        ),
        (
            &[("sys/devices/system/cpu/isolated", "2")],
            "warn isolated cores: other programs may run on the workers' CPU 3; to mend it: add to \
             the kernel's command line and boot: isolcpus=2-3 nohz_full=2-3 rcu_nocbs=2-3",
        ),
        (
            &[("sys/devices/system/cpu/nohz_full", "(null)")],
            "warn nohz_full: the scheduler's tick interrupts the workers' CPUs 2-3; to mend it: add \
             to the kernel's command line and boot: isolcpus=2-3 nohz_full=2-3 rcu_nocbs=2-3",
        ),
        (
            &[("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "2-3")],
            "warn hyper-threads: the workers on CPU 3 and CPU 2 share one core; to mend it: lscpu \
             -e, and name CPUs of different cores",
        ),
        (
            &[("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "3,7")],
            "warn hyper-threads: workers share their cores with CPU 7, where others may run; to mend \
             it: echo 0 > /sys/devices/system/cpu/cpu7/online",
        ),
        (
            &[("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave")],
            "warn governor: the governor of the workers' CPU 3 is powersave; to mend it: cpupower \
             --cpu 3 frequency-set --governor performance",
        ),
        (
            &[("sys/bus/pci/devices/0000:3b:00.0/numa_node", "1")],
            "warn NUMA: port wan (0000:3b:00.0): on node 1, and the workers' CPUs 2-3 are on \
             another; to mend it: name CPUs of its node: 4-7",
        ),
        (
            &[("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "9")],
            "warn NUMA: port wan (0000:3b:00.0): node 0 has 18 MB of huge pages free; to mend it: \
             echo 384 > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
        ),
        (
            &[("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet")],
            "warn clock: the kernel's is hpet: it does not trust the time stamp counter, which is \
             Shunt's; to mend it: echo tsc > \
             /sys/devices/system/clocksource/clocksource0/current_clocksource",
        ),
        (
            &[("proc/cpuinfo", "flags : avx2 bmi2 constant_tsc")],
            "warn clock: the time stamp counter changes its rate, or stops: timeouts would be wrong; \
             to mend it: boot with processor.max_cstate=1, or another machine",
        ),
        (
            &[("dev/net/tun", "")],
            "fail modules: there is no /dev/net/tun, which the ports' TAPs are made with; to mend \
             it: modprobe tun",
        ),
        (
            &[("proc/sys/net/ipv4/neigh/default/gc_thresh3", "1000")],
            "warn neighbours: the kernel keeps 1000 ipv4 neighbours, there are 1024 backends; to \
             mend it: sysctl net.ipv4.neigh.default.gc_thresh3=2048",
        ),
    ];
    for (changes, expected) in rows {
        assert_eq!(one(Fake::with(changes).examined(&needs())), expected, "{changes:?}");
    }
}

#[test]
fn limits_of_the_process_are_told() {
    let limits = |memory: &str, files: &str| {
        let text = format!(
            "Limit Soft Limit Hard Limit Units\nMax locked memory  65536  {memory}  bytes\n\
             Max open files  1024  {files}  files\n"
        );
        one(Fake::with(&[("proc/self/limits", &text)]).examined(&needs()))
    };
    let memory = "warn limits: memlock: 8 MB may be locked; to mend it: ulimit -l unlimited (the \
                  unit has LimitMEMLOCK=infinity)";
    assert_eq!(limits("8388608", "65536"), memory);
    let files = "warn limits: nofile: 1024 files may be open; to mend it: ulimit -Hn 65536 (the unit \
                 has LimitNOFILE=65536)";
    assert_eq!(limits("536870912", "1024"), files);
}

#[test]
fn what_the_configuration_does_not_need_is_not_asked_of_the_machine() {
    let none = [
        ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0"),
        ("sys/kernel/iommu_groups/7", ""),
        ("sys/bus/pci/devices/0000:3b:00.0", ""),
        ("sys/devices/system/cpu/isolated", ""),
        ("sys/class/net/eth1", ""),
    ];
    let fake = Fake::with(&none);
    let frugal = Needs { huge_pages: HugePages::Never, ..Needs::default() };
    assert_eq!(not_good(fake.examined(&frugal)), []);
    // Virtual devices want no IOMMU, and `auto` only wishes for huge pages.
    let virtual_ones = Needs { cards: needs().cards.split_off(1), workers: [].into(), ..needs() };
    let auto = Needs { huge_pages: HugePages::Auto, ..virtual_ones };
    let said = one(fake.examined(&auto));
    assert!(
        said.starts_with("warn huge pages: 512 MB of huge pages are not free: it is"),
        "{said}"
    );
}

#[test]
fn irqbalance_is_told_to_leave_the_workers_alone_if_nothing_else_does() {
    let running = [("proc/77/comm", "irqbalance")];
    assert_eq!(not_good(Fake::with(&running).examined(&needs())), []);
    let noisy = [
        running[0],
        ("sys/devices/system/cpu/isolated", "3"),
        ("sys/devices/system/cpu/nohz_full", "3"),
    ];
    let found = not_good(Fake::with(&noisy).examined(&needs()));
    let said = found.iter().find(|finding| finding.area == "irqbalance").unwrap();
    assert_eq!(said.said, "it may move interrupts to the workers' CPU 2");
}

#[test]
fn what_a_running_daemon_has_taken_counts_as_there() {
    let taken = Fake::with(&[
        ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0"),
        ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "0"),
        ("proc/99/comm", "shuntd"),
    ]);
    assert!(Tree::at(taken.0.path()).runs("shuntd"));
    assert_eq!(not_good(taken.examined(&Needs { running: true, ..needs() })), []);
}

#[test]
fn a_machine_that_shows_nothing_is_not_judged() {
    let nothing = tempfile::tempdir().unwrap();
    let found = examine(&Tree::at(nothing.path()), &needs());
    assert_eq!(not_good(found), []);
    assert_eq!(refusal(&Tree::at(Path::new("/no/such/folder")), &needs()), None);
}

#[test]
fn pages_that_are_made_when_asked_for_count_as_free() {
    let beyond = [
        ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", "400"),
    ];
    assert_eq!(not_good(Fake::with(&beyond).examined(&needs())), []);
}

#[test]
fn the_first_failure_is_why_a_daemon_does_not_start() {
    let two = Fake::with(&[
        ("dev/net/tun", ""),
        ("sys/devices/system/cpu/online", "0-2"),
        ("sys/devices/system/cpu/isolated", "1"),
    ]);
    let refused = refusal(&Tree::at(two.0.path()), &needs()).unwrap();
    assert_eq!((refused.area, refused.verdict, refused.line), ("cores", Verdict::Fail, None));
    let device = Fake::with(&[("proc/net/dev", "lo: 0")]);
    assert_eq!(refusal(&Tree::at(device.0.path()), &needs()).unwrap().line, Some(21));
}
