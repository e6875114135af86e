//! The kinds of differences there are.

use std::net::SocketAddr;

use serde::Serialize;

use crate::control::config::plan::{Backend, Service};
use crate::control::health::check::Check;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// A setting, by table and key, that only a restart changes.
    Restart {
        /// As in the file: `[shunt] workers`, `[[port]] wan mtu`.
        setting: String,
        /// Value in use.
        from: String,
        /// Value in the new file.
        to: String,
    },
    /// A setting that changes at once.
    Setting {
        /// As in the file: `[timeouts] udp_s`.
        setting: String,
        /// Value in use.
        from: String,
        /// Value in the new file.
        to: String,
    },
    /// A list of clients that is new.
    ListAdded {
        /// Its name.
        list: String,
        /// How many networks it has.
        networks: usize,
    },
    /// A list of clients whose networks are others.
    ListChanged {
        /// Its name.
        list: String,
        /// How many networks are new.
        added: usize,
        /// How many are gone.
        removed: usize,
    },
    /// A list of clients that leaves.
    ListRemoved {
        /// Its name.
        list: String,
        /// How many networks it has.
        networks: usize,
    },
    /// A service that is new.
    ServiceAdded(Service),
    /// A setting of a service.
    ServiceSetting {
        /// The service's name in the new file.
        service: String,
        /// The key.
        setting: &'static str,
        /// Value in use.
        from: String,
        /// Value in the new file.
        to: String,
    },
    /// A backend that is new in a service that is not.
    BackendAdded {
        /// The service's name.
        service: String,
        /// The backend.
        backend: Backend,
    },
    /// A backend's weight.
    BackendWeight {
        /// The service's name.
        service: String,
        /// The backend.
        address: SocketAddr,
        /// Weight in use.
        from: u32,
        /// Weight in the new file; 0 drains.
        to: u32,
    },
    /// How packets reach a backend. Connections that are there keep their way; new ones take this.
    BackendMode {
        /// The service's name.
        service: String,
        /// The backend.
        address: SocketAddr,
        /// Mode in use, on one line: `tunnel gue:6080`.
        from: String,
        /// Mode in the new file.
        to: String,
    },
    /// Another setting of a backend.
    BackendSetting {
        /// The service's name.
        service: String,
        /// The backend.
        address: SocketAddr,
        /// The key.
        setting: &'static str,
        /// Value in use.
        from: String,
        /// Value in the new file.
        to: String,
    },
    /// A backend that leaves a service that stays.
    BackendRemoved {
        /// The service's name.
        service: String,
        /// The backend.
        backend: Backend,
    },
    /// A check that is new.
    CheckAdded {
        /// The service's name.
        service: String,
        /// The backend, if it is one of its own.
        #[serde(skip_serializing_if = "Option::is_none")]
        backend: Option<SocketAddr>,
        /// The check.
        check: Check,
    },
    /// A setting of a check.
    CheckSetting {
        /// The service's name.
        service: String,
        /// The backend, if it is one of its own.
        #[serde(skip_serializing_if = "Option::is_none")]
        backend: Option<SocketAddr>,
        /// What it asks: `http GET /`.
        check: String,
        /// The key.
        setting: &'static str,
        /// Value in use.
        from: String,
        /// Value in the new file.
        to: String,
    },
    /// A check that leaves.
    CheckRemoved {
        /// The service's name.
        service: String,
        /// The backend, if it is one of its own.
        #[serde(skip_serializing_if = "Option::is_none")]
        backend: Option<SocketAddr>,
        /// The check.
        check: Check,
    },
    /// A service that leaves.
    ServiceRemoved(Service),
}

impl Change {
    /// Only a restart makes this change.
    pub fn needs_restart(&self) -> bool {
        self.restart_setting().is_some()
    }

    pub(super) fn restart_setting(&self) -> Option<&str> {
        match self {
            Self::Restart { setting, .. } => Some(setting),
            _ => None,
        }
    }
}
