//! Changes made at runtime: the running configuration as a text that is edited, and read as any file is.
//!
//! ```text
//! running text ─► edits (keys of the file, comments stay) ─► text ─► validate ─► Plan ─► as a reload goes on
//!                     │ not there, there already                        │ anything a file may not say
//!                     └────────────────── nothing has changed ◄─────────┘
//! ```
//!
//! An edit is written in the words of the file, and what comes out is read by the same code as the file. So a
//! running configuration is always one the file could say, there are no second rules to keep in step, and `shunt save`
//! has nothing to work out: it writes the text. The price is that an edit costs what a reload of the file costs; several
//! in one request cost as much as one.
//!
//! Nothing here touches the daemon: text in, text out.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::files::Files;
use super::config::plan::Plan;

mod rows;
mod said;
mod sheet;
mod written;

use sheet::Sheet;

/// Keys of a table of the file, and their values. In a change, `null` takes a key out.
pub type Keys = serde_json::Map<String, serde_json::Value>;

/// Most edits in one request.
pub const EDITS_MAX: usize = 4096;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "edit", rename_all = "snake_case", deny_unknown_fields)]
pub enum Edit {
    /// A new service, with the keys of `[[service]]`. Without a `name` it gets one of its address.
    AddService {
        /// Its keys.
        keys: Keys,
    },
    /// Some keys of a service.
    EditService {
        /// Which.
        service: Which,
        /// Its new values.
        keys: Keys,
    },
    /// A service with these keys of `[[service]]` and no others, whether it is there already or not. Without
    /// `backend` among them it keeps its backends.
    PutService {
        /// Its name.
        service: String,
        /// All of its keys; `name` goes without saying.
        keys: Keys,
    },
    /// A service that goes.
    DeleteService {
        /// Which.
        service: Which,
    },
    /// A new backend, with the keys of `[[service.backend]]`.
    AddBackend {
        /// Whose.
        service: Which,
        /// Its keys.
        keys: Keys,
    },
    /// Some keys of a backend.
    EditBackend {
        /// Whose.
        service: Which,
        /// Which.
        backend: SocketAddr,
        /// Its new values.
        keys: Keys,
    },
    /// A backend with these keys of `[[service.backend]]` and no others, whether it is there already or not.
    PutBackend {
        /// Whose.
        service: Which,
        /// Which.
        backend: SocketAddr,
        /// All of its keys; `address` goes without saying.
        keys: Keys,
    },
    /// A backend that goes.
    DeleteBackend {
        /// Whose.
        service: Which,
        /// Which.
        backend: SocketAddr,
    },
    /// One more of `local_addresses`.
    AddLocalAddress {
        /// Whose.
        service: Which,
        /// The address.
        address: IpAddr,
    },
    /// One less.
    DeleteLocalAddress {
        /// Whose.
        service: Which,
        /// The address.
        address: IpAddr,
    },
    /// All services go.
    DeleteServices,
    /// Some keys of `[timeouts]`.
    SetTimeouts {
        /// Their new values.
        keys: Keys,
    },
}

/// How a service is named: by its name, or by where clients find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Which {
    /// `name`
    Name(String),
    /// `protocol` and `address`, of a service for everybody.
    Place {
        /// `tcp`, `udp` or `sctp`.
        protocol: String,
        /// As in the file.
        address: String,
    },
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{name}`"),
            Self::Place { protocol, address } => write!(f, "{protocol} {address}"),
        }
    }
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There is no such service.
    #[error("there is no service {0}; `shunt services` lists them")]
    NoService(String),
    /// There is one already.
    #[error("there is a service at {0} already; edit it, or delete it first")]
    ServiceExists(String),
    /// There is no such backend.
    #[error("service `{service}` has no backend {backend}")]
    NoBackend {
        /// The service's name.
        service: String,
        /// What was looked for.
        backend: String,
    },
    /// There is one already.
    #[error("service `{service}` has backend {backend} already")]
    BackendExists {
        /// The service's name.
        service: String,
        /// What was to be added.
        backend: String,
    },
    /// It is one of several things that go by that address.
    #[error("{0} is the address of services for certain clients only; name the one that is meant")]
    Ambiguous(String),
    /// An address that is not one.
    #[error("{0} is not a protocol and an address, like tcp and 198.51.100.10:80")]
    BadPlace(String),
    /// It stands in a file that is not written here.
    #[error("service `{service}` stands in {}: edit it there, then `shunt reload`", file.display())]
    Included {
        /// The service's name.
        service: String,
        /// The included file.
        file: PathBuf,
    },
    /// The text cannot be edited as it is.
    #[error("{0}")]
    Unwritable(String),
    /// What came out is not a configuration; the messages of the file's rules.
    #[error("{0}")]
    Invalid(String),
}

/// The text with all of `edits` made, in order. `plan` is what the files say; those that are included stay as they
/// are.
pub fn apply(files: &Files, plan: &Plan, edits: &[Edit]) -> Result<String, EditError> {
    let document = files.text.parse();
    let document = document.map_err(|error| EditError::Unwritable(format!("{error}")))?;
    let mut sheet = Sheet::new(document, plan, &files.included)?;
    for edit in edits {
        sheet.apply(edit)?;
    }
    sheet.finish()
}

#[cfg(test)]
mod tests;
