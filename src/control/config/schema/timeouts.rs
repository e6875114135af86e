//! `[timeouts]` and `[service.timeouts]`: seconds of silence by connection state.
//!
//! What each is and what it is by default is said where workers have it ([`snapshot::Timeouts`]), once.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{Maybe, Spanned};
use crate::dataplane::snapshot;

/// Longest, seconds: 31 days.
pub(crate) const TIMEOUT_MAX_S: i64 = 31 * 24 * 3600;

/// The keys are listed once more, for the reader of the file, in the order it names them.
macro_rules! timeouts {
    ($($key:ident)*) => {
        /// `[timeouts]` and `[service.timeouts]`: seconds of silence by connection state.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct Timeouts {
            $(pub(crate) $key: Maybe<i64>,)*
        }

        impl Timeouts {
            /// Their names.
            pub(super) const KEYS: [&'static str; snapshot::Timeouts::KEYS.len()] = [$(stringify!($key),)*];

            /// What is written, by name.
            pub(crate) fn written(&self) -> impl Iterator<Item = (&'static str, &Spanned<i64>)> {
                let all = [$((stringify!($key), self.$key.as_ref()),)*];
                all.into_iter().filter_map(|(key, value)| Some((key, value?)))
            }
        }
    };
}

timeouts! {
    tcp_established_s tcp_syn_sent_s tcp_syn_recv_s tcp_fin_wait_s tcp_time_wait_s tcp_close_s
    tcp_close_wait_s tcp_last_ack_s tcp_listen_s tcp_synack_s tcp_none_s udp_s one_packet_s
    sctp_none_s sctp_init1_s sctp_init_s sctp_cookie_sent_s sctp_cookie_replied_s
    sctp_cookie_wait_s sctp_cookie_s sctp_cookie_echoed_s sctp_established_s
    sctp_shutdown_sent_s sctp_shutdown_received_s sctp_shutdown_ack_sent_s sctp_rejected_s
    sctp_closed_s
}

/// Without defaults: a service's own is that of `[timeouts]`.
impl JsonSchema for Timeouts {
    fn schema_name() -> Cow<'static, str> {
        "Timeouts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let default = snapshot::Timeouts::default();
        let key = |(key, meaning): (&&str, &&str)| {
            let otherwise = default.named(key).unwrap_or_default();
            let meaning = format!("{} By default {otherwise}.", meaning.trim());
            let value = serde_json::json!({
                "description": meaning, "type": "integer", "minimum": 1, "maximum": TIMEOUT_MAX_S
            });
            ((*key).to_owned(), value)
        };
        let keys = snapshot::Timeouts::KEYS.iter().zip(&snapshot::Timeouts::MEANINGS).map(key);
        let keys: serde_json::Map<String, serde_json::Value> = keys.collect();
        json_schema!({ "type": "object", "properties": keys, "additionalProperties": false })
    }
}
