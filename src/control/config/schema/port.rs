//! `[[port]]`, `[[port.route]]` and `[[list]]`: where packets come from, and whose.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{List, Maybe, Spanned};

/// `[[port]]`: a network port and its TAP twin.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Port {
    /// Its name in messages and metrics: unique. [restart]
    pub(crate) name: Spanned<String>,
    /// A PCI address (`0000:3b:00.0`) or a DPDK virtual device (`net_af_packet0,iface=eth1`). [restart]
    pub(crate) device: Maybe<String>,
    /// Instead of a device: the port whose device receives and sends the frames with these tags. [restart]
    pub(crate) on: Maybe<String>,
    /// VID of the tag (802.1Q), or of the outer and the inner one (802.1ad). With `on`. [restart]
    #[serde(default)]
    #[schemars(schema_with = "vlan")]
    pub(crate) vlan: Maybe<toml::Value>,
    /// The name of its TAP, the interface the kernel sees instead; the port's name if left out. [restart]
    #[schemars(length(min = 1, max = 15))]
    pub(crate) tap: Maybe<String>,
    /// The box's own addresses on the TAP, with prefix length: no VIPs and no local addresses. [restart]
    #[schemars(extend("default" = [] as [&str; 0]))]
    pub(crate) addresses: Option<List<String>>,
    /// MTU of port and TAP, tags not counted: 1500, or that of the port it is `on`. [restart]
    #[schemars(range(min = 576, max = 9216))]
    pub(crate) mtu: Maybe<i64>,
    /// Receive descriptors of each queue: a power of two. [restart]
    #[schemars(range(min = 64, max = 4096), extend("default" = 1024))]
    pub(crate) rx_descriptors: Maybe<i64>,
    /// Transmit descriptors of each queue: a power of two. [restart]
    #[schemars(range(min = 64, max = 4096), extend("default" = 1024))]
    pub(crate) tx_descriptors: Maybe<i64>,
    /// Routes through the port's TAP. [restart]
    #[serde(default)]
    pub(crate) route: Vec<Route>,
}

/// One number or two, which no type of ours says; its list has one place for all.
fn vlan(_: &mut SchemaGenerator) -> Schema {
    let vid = serde_json::json!({ "type": "integer", "minimum": 1, "maximum": 4094 });
    json_schema!({
        "anyOf": [vid, { "type": "array", "items": vid, "minItems": 1, "maxItems": 2 }]
    })
}

/// `[[port.route]]`: a route through the port's TAP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// Destination: a network, like `0.0.0.0/0` or `::/0`. [restart]
    pub(crate) to: Spanned<String>,
    /// Gateway of the same family, in a network of the port or link-local. [restart]
    pub(crate) via: Spanned<String>,
}

/// `[[list]]`: networks of clients, for `allow`, `deny` and `clients`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientList {
    /// What `allow`, `deny` and `clients` call it: unique.
    #[schemars(length(min = 1, max = 63))]
    pub(crate) name: Spanned<String>,
    /// Networks and addresses of either family.
    pub(crate) networks: Option<List<String>>,
    /// A file with more of them, one a line. Beside the configuration unless absolute.
    pub(crate) file: Maybe<String>,
}
