//! The time stamp counter: Shunt's clock, read once a burst. It must run at one rate, in every state of
//! every core.

use super::{Findings, Tree, cores};

const AREA: &str = "clock";
const SOURCE: &str = "sys/devices/system/clocksource/clocksource0";
/// The kernel's clocks that are made of it.
const MADE_OF_IT: [&str; 3] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page"];

pub(super) fn examine(tree: &Tree, findings: &mut Findings) {
    if let Some(flags) = cores::flags(tree)
        && !["constant_tsc", "nonstop_tsc"].iter().all(|flag| flags.contains(*flag))
        && !flags.contains("hypervisor")
    {
        let said = "the time stamp counter changes its rate, or stops: timeouts would be wrong";
        return findings.warn(AREA, said, "boot with processor.max_cstate=1, or another machine");
    }
    let Some(source) = tree.read(&format!("{SOURCE}/current_clocksource")) else { return };
    if MADE_OF_IT.contains(&&*source) {
        return findings.pass(AREA, format!("the kernel's is {source}"));
    }
    let said = format!(
        "the kernel's is {source}: it does not trust the time stamp counter, which is Shunt's"
    );
    let offered = tree.read(&format!("{SOURCE}/available_clocksource")).unwrap_or_default();
    let mend = if offered.split_whitespace().any(|name| name == "tsc") {
        format!("echo tsc > /{SOURCE}/current_clocksource")
    } else {
        "dmesg | grep -i tsc says why".to_owned()
    };
    findings.warn(AREA, said, mend);
}
