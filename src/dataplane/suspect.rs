//! Packets that look as if no honest client had sent them: switches, both off unless asked for.
//!
//! ```text
//! packet to a VIP, of no connection ─┬─ TCP, flags that no host sends  (`drop_malformed_tcp`)     ─► `tcp_flags`
//!                                    └─ UDP, from a port of amplifiers (`udp_reflection_ports`) ─► `reflection_port`
//! ```
//!
//! **Flags.** RFC 9293 knows no segment without SYN, RST or ACK, none with SYN and FIN, none with SYN
//! and RST: scanners send them, to tell systems apart by their answers. Which combinations are
//! sent is the list that Linux's connection tracking goes by. IPVS schedules SYN with FIN as a SYN, which
//! is why this is a switch.
//!
//! **Reflection.** A flood bounced off open resolvers, time servers and the like comes *from* their
//! well-known port. No client of an ordinary service does. A service whose clients do (servers that ask
//! each other: time, names) has a list of its own.
//!
//! Packets of connections are not asked: they cost nothing, and their ends know better. Refusals are
//! silent.
//!
//! **Our own answers** amplify nothing: a RST or ABORT is no longer than what it answers, a SYN+ACK
//! with a cookie at most 4 bytes, an ICMP error its own headers (28 bytes, IPv6: 48), as of any host;
//! and all but cookies have a limit a second (`dataplane::refuse`).

use super::conn::state::flags::{ACK, FIN, RST, SYN};
use super::family::Family;
use super::flows::Flows;
use super::parse::Parsed;
use super::snapshot::Protocol;
use super::verdict::Reason;
use crate::ids::ServiceId;

/// The urgent pointer counts.
const URG: u8 = 0x20;

impl Flows {
    /// Why a packet to a service, of no connection, is not looked at further.
    pub(super) fn suspect<F: Family>(
        &self,
        parsed: &Parsed<F>,
        service: Option<ServiceId>,
    ) -> Option<Reason> {
        match Protocol::from_number(parsed.key.protocol) {
            Some(Protocol::Tcp) => (self.snapshot.drop_malformed_tcp
                && is_malformed(parsed.signal))
            .then_some(Reason::TcpFlags),
            Some(Protocol::Udp) => {
                let ports = &*self.snapshot.service(service?)?.reflection_ports;
                ports.contains(&parsed.key.source_port()).then_some(Reason::ReflectionPort)
            }
            Some(Protocol::Sctp) | None => None,
        }
    }
}

/// Does no host send these flags together? PSH, and those of congestion, go with any.
fn is_malformed(signal: u8) -> bool {
    const SYN_URG: u8 = SYN | URG;
    const SYN_ACK: u8 = SYN | ACK;
    const RST_ACK: u8 = RST | ACK;
    const FIN_ACK: u8 = FIN | ACK;
    const FIN_ACK_URG: u8 = FIN | ACK | URG;
    const ACK_URG: u8 = ACK | URG;
    !matches!(
        signal & (FIN | SYN | RST | ACK | URG),
        SYN | SYN_URG | SYN_ACK | RST | RST_ACK | FIN_ACK | FIN_ACK_URG | ACK | ACK_URG
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::conn::state::flags::PSH;

    #[test]
    fn flags_that_hosts_send_pass_and_scanners_do_not() {
        let (ece, cwr) = (0x40, 0x80);
        let honest = [
            SYN,
            SYN | ece | cwr,
            SYN | PSH,
            SYN | ACK,
            SYN | ACK | ece,
            ACK,
            ACK | PSH,
            ACK | PSH | URG,
            ACK | cwr,
            FIN | ACK,
            FIN | ACK | PSH,
            FIN | ACK | PSH | URG,
            RST,
            RST | ACK,
            RST | ACK | PSH,
        ];
        let scans = [
            ("null", 0),
            ("xmas", FIN | PSH | URG),
            ("full xmas", FIN | SYN | RST | PSH | ACK | URG | ece | cwr),
            ("FIN alone", FIN),
            ("PSH alone", PSH),
            ("URG alone", URG),
            ("SYN with FIN", SYN | FIN),
            ("SYN with FIN and ACK", SYN | FIN | ACK),
            ("SYN with RST", SYN | RST),
            ("RST with FIN", RST | FIN),
            ("congestion alone", ece | cwr),
        ];
        for flags in honest {
            assert!(!is_malformed(flags), "{flags:#x}");
        }
        for (name, flags) in scans {
            assert!(is_malformed(flags), "{name}");
        }
    }
}
