//! `[shunt]`, `[dpdk]`, `[limits]`, `[metrics]` and `[admin]`: the process, and what it reserves.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{List, Maybe};

/// `[shunt]`: the process.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shunt {
    /// CPUs of the workers, one each: a worker polls its CPU around the clock. [restart]
    #[schemars(required, length(min = 1, max = 64), inner(range(min = 0)))]
    pub(crate) workers: Option<List<i64>>,
    /// CPU of everything else: signals, admin socket, metrics, netlink. Not pinned if left out. [restart]
    #[schemars(range(min = 0))]
    pub(crate) control_core: Maybe<i64>,
    /// Never pause or sleep when idle: the lowest latency, and all of each worker's CPU. [restart]
    #[schemars(extend("default" = false))]
    pub(crate) busy_poll: Maybe<bool>,
    /// Microseconds an idle worker sleeps at a time on a CPU that can neither watch memory nor pause until a time. 0: it pauses
    /// for moments, and takes all of its CPU. [restart]
    #[schemars(range(min = 0, max = 1000), extend("default" = 0))]
    pub(crate) idle_sleep_us: Maybe<i64>,
    /// Where `shunt status` and its like connect: an absolute path. [restart]
    #[schemars(extend("default" = "/run/shunt/admin.sock"))]
    pub(crate) admin_socket: Maybe<String>,
    /// Seconds that SIGTERM waits for connections to end. 0 does not wait.
    #[schemars(range(min = 0, max = 86_400), extend("default" = 30))]
    pub(crate) drain_deadline_s: Maybe<i64>,
    /// What a sender gets whose packet to a VIP or local address nobody wants: a RST, ABORT or ICMP error, or nothing.
    #[schemars(extend("enum" = ["reject", "drop"], "default" = "reject"))]
    pub(crate) strays: Maybe<String>,
    /// Drop TCP segments of no connection with flags that no host sends together.
    #[schemars(extend("default" = false))]
    pub(crate) drop_malformed_tcp: Maybe<bool>,
    /// Datagrams from these ports start no flow with a service of UDP that has no list of its own.
    #[schemars(length(max = 64), inner(range(min = 1, max = 65_535)), extend("default" = [] as [u16; 0]))]
    pub(crate) udp_reflection_ports: Option<List<i64>>,
    /// Which connections a client's SYN starts over, with a backend chosen anew.
    #[schemars(extend("enum" = ["never", "closed", "closing"], "default" = "closed"))]
    pub(crate) syn_restarts: Maybe<String>,
    /// A connection of TCP or SCTP that ends here and not by its ends is reset towards both, in `nat` and `fullnat`.
    #[schemars(extend("default" = true))]
    pub(crate) reset_on_end: Maybe<bool>,
    /// When both ends of a flow of UDP that was answered are told of its end, in `nat` and `fullnat`.
    #[schemars(extend("enum" = ["always", "removal", "never"], "default" = "always"))]
    pub(crate) icmp_on_end: Maybe<String>,
    /// Who answers a ping of a VIP: the kernel, the kernel while a backend takes new connections, or nobody.
    #[schemars(extend("enum" = ["always", "live", "never"], "default" = "always"))]
    pub(crate) ping: Maybe<String>,
    /// Outer headers of tunnels never say "don't fragment", whatever the inner one says.
    #[schemars(extend("default" = false))]
    pub(crate) tunnels_ignore_df: Maybe<bool>,
    /// Services take over connections they have not seen begin, where they can.
    #[schemars(extend("default" = false))]
    pub(crate) sloppy: Maybe<bool>,
    /// What the box's own programs send to a service is balanced. Changes the kernel's routing rules.
    #[schemars(extend("default" = false))]
    pub(crate) local_out: Maybe<bool>,
    /// Other boxes with the same VIPs that have this one as a backend in mode `dr`.
    #[schemars(length(max = 16), extend("default" = [] as [&str; 0]))]
    pub(crate) directors: Option<List<String>>,
    /// Packets a second each worker may pass to the kernel.
    #[schemars(range(min = 1, max = 10_000_000), extend("default" = 20_000))]
    pub(crate) punt_per_second: Maybe<i64>,
    /// Names of lists whose clients no service takes connections from.
    #[schemars(extend("default" = [] as [&str; 0]))]
    pub(crate) deny: Option<List<String>>,
}

/// `[dpdk]`: memory and EAL.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dpdk {
    /// `auto` takes huge pages if enough are free, `require` refuses to start without them. [restart]
    #[schemars(extend("enum" = ["auto", "require", "never"], "default" = "auto"))]
    pub(crate) huge_pages: Maybe<String>,
    /// Megabytes of memory for DPDK. [restart]
    #[schemars(range(min = 64, max = 1_048_576), extend("default" = 512))]
    pub(crate) memory_mb: Maybe<i64>,
    /// Tells the files of several DPDK processes on one machine apart. [restart]
    #[schemars(length(min = 1, max = 32), extend("default" = "shunt"))]
    pub(crate) file_prefix: Maybe<String>,
    /// DPDK's own tools (dpdk-pdump, dpdk-proc-info) may attach. With `huge_pages = "require"`. [restart]
    #[schemars(extend("default" = false))]
    pub(crate) secondary_processes: Maybe<bool>,
    /// Further arguments to DPDK's EAL, handed on as they are. [restart]
    #[schemars(extend("default" = [] as [&str; 0]))]
    pub(crate) eal_arguments: Option<List<String>>,
    /// Packet buffers over all ports: more than devices x workers x `rx_descriptors`. [restart]
    #[schemars(range(min = 1024, max = 134_217_728), extend("default" = 32_768))]
    pub(crate) packet_buffers: Maybe<i64>,
}

/// `[limits]`: table sizes reserved at start.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// IPv4 connections over all workers; each worker gets its share. [restart]
    #[schemars(range(min = 1024, max = 4_294_967_295_i64), extend("default" = 1_000_000))]
    pub(crate) connections: Maybe<i64>,
    /// The same for connections of IPv6 clients, in a table of their own; as `connections` if left out. [restart]
    #[schemars(range(min = 1024, max = 4_294_967_295_i64))]
    pub(crate) connections_ipv6: Maybe<i64>,
    /// Clients of services with `persistence_s` that are remembered. [restart]
    #[schemars(range(min = 1024, max = 67_108_864), extend("default" = 65_536))]
    pub(crate) persistent_clients: Maybe<i64>,
    /// Connections made by SYN cookies that live at a time, of each family. [restart]
    #[schemars(range(min = 1024, max = 268_435_456), extend("default" = 65_536))]
    pub(crate) cookie_connections: Maybe<i64>,
    /// Sources of clients that services with `source_max_...` know at a time. [restart]
    #[schemars(range(min = 1024, max = 67_108_864), extend("default" = 65_536))]
    pub(crate) limited_sources: Maybe<i64>,
}

/// `[metrics]`: the Prometheus endpoint.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metrics {
    /// Address and port where Prometheus finds `/metrics`; the empty string turns it off. [restart]
    #[schemars(extend("default" = "127.0.0.1:9150"))]
    pub(crate) listen: Maybe<String>,
}

/// `[admin]`: the admin API beyond the machine.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    /// Address and port where it listens; the empty string turns it off. The other keys belong to it. [restart]
    #[schemars(extend("default" = ""))]
    pub(crate) listen: Maybe<String>,
    /// Certificates in PEM, the server's own first. Beside the configuration unless absolute.
    pub(crate) certificate_file: Maybe<String>,
    /// The certificate's key, in PEM; not readable by everybody.
    pub(crate) key_file: Maybe<String>,
    /// The token that is asked for: 16 to 1024 visible characters of ASCII; not readable by everybody.
    pub(crate) token_file: Maybe<String>,
}
