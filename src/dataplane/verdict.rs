//! Why packets are refused.
//!
//! [`Reason`] is the single list of reasons: it indexes the counters, labels the metric
//! (`shunt_drops_total{reason="…"}`), and its doc lines are the operator's documentation.

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $variant:ident => $label:literal ),+ $(,)?) => {
        /// Why a packet was refused. Every drop has one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason {
            $( $(#[doc = $doc])+ $variant ),+
        }

        impl Reason {
            /// Every reason, in counter order.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),+];

            /// The metric label: stable, lower case, one word per reason.
            pub const fn label(self) -> &'static str {
                match self { $(Reason::$variant => $label),+ }
            }

            /// One sentence for the operator.
            pub const fn describe(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($doc),+)),+ }
            }
        }
    };
}

reasons! {
    /// The frame ends before its headers do.
    Truncated => "truncated",
    /// The packet came in more than one buffer segment.
    Segmented => "segmented",
    /// A tag of a VLAN no port is configured for.
    Vlan => "vlan",
    /// The IP version field does not match the EtherType.
    IpVersion => "ip_version",
    /// The IPv4 header length is below 20 bytes or past the packet's end.
    IpHeaderLength => "ip_header_length",
    /// The IPv4 total length is below its header's or past the frame's end.
    IpTotalLength => "ip_total_length",
    /// The IPv4 header checksum is wrong.
    IpChecksum => "ip_checksum",
    /// The port found the TCP or UDP checksum wrong, or we did, where a handshake ends here (SYN
    /// cookies).
    L4Checksum => "l4_checksum",
    /// The frame is for another station: a switch flooded it, or the port is promiscuous.
    OtherStation => "other_station",
    /// The source address is no host's: multicast, broadcast, loopback, zero, or the destination itself.
    IpSource => "ip_source",
    /// The TTL would reach zero here.
    TtlExpired => "ttl_expired",
    /// A piece of a packet (IP fragment) whose first piece was refused, or that cannot go on in pieces.
    Fragment => "fragment",
    /// A first piece that does not hold the whole transport header.
    FragmentTiny => "fragment_tiny",
    /// More pieces wait for others than are held.
    FragmentLimit => "fragment_limit",
    /// The first piece did not come in time, or of SCTP the last.
    FragmentTimeout => "fragment_timeout",
    /// An ICMP error about one of our flows whose checksum is wrong.
    IcmpChecksum => "icmp_checksum",
    /// An ICMP error that nobody else hears of: the other family has no word for it, or it told us what a tunnel's way carries, and its sender lets us cut.
    IcmpUntold => "icmp_untold",
    /// A ping of a VIP that the policy does not answer.
    Ping => "ping",
    /// IPv6 extension headers or IPv4 options to a VIP or local address that are cut off, too many, or route elsewhere.
    Extensions => "extensions",
    /// The TCP data offset is below 20 bytes or past the segment's end.
    TcpDataOffset => "tcp_data_offset",
    /// The UDP length is below 8 bytes or past the datagram's end.
    UdpLength => "udp_length",
    /// A VIP or local address was sent a protocol that is not balanced.
    Protocol => "protocol",
    /// A TCP segment of no connection with flags that no host sends together.
    TcpFlags => "tcp_flags",
    /// A datagram of no connection from a port that floods are reflected from.
    ReflectionPort => "reflection_port",
    /// A list that the service names, or does not, refuses the client's address.
    Denied => "denied",
    /// The service has as many connections as it may.
    ServiceFull => "service_full",
    /// The service has made as many connections in this time as it may.
    ServiceRate => "service_rate",
    /// The client's source has as many connections to the service as it may.
    SourceFull => "source_full",
    /// The client's source has made as many connections to the service in this time as it may.
    SourceRate => "source_rate",
    /// No service is configured for this VIP, protocol and port.
    NoService => "no_service",
    /// A packet, or an ICMP error about one, of no known connection that cannot start one.
    NoConnection => "no_connection",
    /// No backend the scheduler may choose has a weight above zero and room for one more.
    NoBackend => "no_backend",
    /// The backend chosen is the client itself, in a mode that keeps its address: no host takes a packet from itself.
    Hairpin => "hairpin",
    /// The connection's backend was removed from the configuration.
    BackendGone => "backend_gone",
    /// The daemon is draining and takes no new connections.
    Draining => "draining",
    /// The worker's connection table holds its limit.
    TableFull => "table_full",
    /// Both index buckets of the new connection are full.
    IndexFull => "index_full",
    /// An ACK to a service with SYN cookies that carries none of ours.
    CookieBad => "cookie_bad",
    /// A SYN cookie of ours that is too old.
    CookieOld => "cookie_old",
    /// A segment that overtook the one that was to bring the client's SYN cookie.
    CookieEarly => "cookie_early",
    /// No room for the numbers of a connection made by a SYN cookie.
    CookieFull => "cookie_full",
    /// A client's segment that found no room to wait for its backend's handshake, or waited in vain.
    CookieHeld => "cookie_held",
    /// No local address and port is free towards this backend.
    LocalPorts => "local_ports",
    /// NAT: the client uses this port towards another VIP of the same backend already.
    ClientPort => "client_port",
    /// Longer than the way to the backend or client carries.
    TooBig => "too_big",
    /// A packet to be sent in pieces could not be cut: no free buffers, or too many pieces.
    Uncut => "uncut",
    /// The buffer has no room for what is to be put in front: an outer header, a VLAN tag; or none is free for a segment with the client's address.
    NoRoom => "no_room",
    /// The link-layer address of the next hop is not known.
    NextHop => "next_hop",
    /// The owner's handover lane is full.
    HandoverFull => "handover_full",
    /// A packet arrived at a worker by handover and is not that worker's either.
    HandoverLoop => "handover_loop",
    /// More packets for the kernel than the punt limit allows.
    PuntLimit => "punt_limit",
    /// The punt lane to the kernel is full.
    PuntFull => "punt_full",
    /// The outgoing port did not take the packet.
    TxFull => "tx_full",
}

impl Reason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Those a new connection to a service is refused for: they are counted by service too.
    pub const OF_SERVICES: [Reason; 20] = [
        Reason::TtlExpired,
        Reason::Fragment,
        Reason::TcpFlags,
        Reason::ReflectionPort,
        Reason::Denied,
        Reason::ServiceFull,
        Reason::ServiceRate,
        Reason::SourceFull,
        Reason::SourceRate,
        Reason::NoBackend,
        Reason::Hairpin,
        Reason::Draining,
        Reason::TableFull,
        Reason::IndexFull,
        Reason::CookieFull,
        Reason::LocalPorts,
        Reason::ClientPort,
        Reason::TooBig,
        Reason::NoRoom,
        Reason::NextHop,
    ];
}
