//! `POST /hand`: one backend drained, or weighed, beside the file.
//!
//! ```text
//! { "hand": "drain",   "service": "web", "backend": "10.44.0.11", "deadline_s": 600 }
//! { "hand": "weight",  "service": "web", "backend": "10.44.0.11:8080", "weight": 3 }
//! { "hand": "undrain", "service": "web", "backend": "10.44.0.11" }
//! ```
//!
//! The answer says what is set now and how many connections the backend has; so does each line of `GET /drift`. What is
//! done with it: [`crate::control::hands`].

use std::fmt;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator wants with a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "hand", rename_all = "snake_case", deny_unknown_fields)]
pub enum Hand {
    /// No new connections; those that are left at the deadline are ended.
    Drain {
        /// By name.
        service: String,
        /// Address, or address and port.
        backend: String,
        /// From now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline_s: Option<u64>,
    },
    /// The file's weight again.
    Undrain {
        /// By name.
        service: String,
        /// Address, or address and port.
        backend: String,
    },
    /// This weight in the place of the file's.
    Weight {
        /// By name.
        service: String,
        /// Address, or address and port.
        backend: String,
        /// 0 to 65535.
        weight: u32,
    },
}

impl Hand {
    /// The service's name.
    pub fn service(&self) -> &str {
        let (Self::Drain { service, .. }
        | Self::Undrain { service, .. }
        | Self::Weight { service, .. }) = self;
        service
    }

    /// The backend, as it was named.
    pub fn backend(&self) -> &str {
        let (Self::Drain { backend, .. }
        | Self::Undrain { backend, .. }
        | Self::Weight { backend, .. }) = self;
        backend
    }
}

impl fmt::Display for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain { deadline_s: Some(seconds), .. } => {
                write!(f, "drain, {seconds} s at most")
            }
            Self::Drain { deadline_s: None, .. } => f.write_str("drain"),
            Self::Undrain { .. } => f.write_str("undrain"),
            Self::Weight { weight, .. } => write!(f, "weight {weight}"),
        }
    }
}

/// A backend as the hand has left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Handed {
    /// The service's name.
    pub service: String,
    /// Which of its backends.
    pub backend: SocketAddr,
    /// What is set by hand now.
    pub by_hand: Option<ByHand>,
    /// Its connections.
    pub connections: u64,
}

/// What is set by hand for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ByHand {
    /// In the place of the file's.
    pub weight: u32,
    /// Until its connections are ended.
    pub ends_in_s: Option<u64>,
}
