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

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table};

use super::config::place;
use super::config::plan::{Plan, Service};
use crate::dataplane::snapshot::{Ports, Protocol, ServiceAddress};

mod written;

use written::{backend_tables, replace_keys, service_tables, set_keys, table_of};

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
    /// The text cannot be edited as it is.
    #[error("{0}")]
    Unwritable(String),
    /// What came out is not a configuration; the messages of the file's rules.
    #[error("{0}")]
    Invalid(String),
}

/// The text with all of `edits` made, in order. `plan` is what the text says.
pub fn apply(text: &str, plan: &Plan, edits: &[Edit]) -> Result<String, EditError> {
    let document = text.parse().map_err(|error| EditError::Unwritable(format!("{error}")))?;
    let mut sheet = Sheet::new(document, plan)?;
    for edit in edits {
        sheet.apply(edit)?;
    }
    Ok(sheet.document.to_string())
}

/// A document, and who is where in it.
struct Sheet {
    document: DocumentMut,
    /// In the order of the tables.
    rows: Vec<Row>,
}

/// What of a service it is found by.
struct Row {
    name: String,
    place: (Protocol, ServiceAddress),
    is_everybodys: bool,
    backends: Vec<SocketAddr>,
}

impl From<&Service> for Row {
    fn from(service: &Service) -> Self {
        Self {
            name: service.name.clone(),
            place: (service.protocol, service.address),
            is_everybodys: service.clients.is_empty(),
            backends: service.backends.iter().map(|backend| backend.address).collect(),
        }
    }
}

impl Sheet {
    fn new(mut document: DocumentMut, plan: &Plan) -> Result<Self, EditError> {
        let rows: Vec<Row> = plan.services.iter().map(Row::from).collect();
        if service_tables(&mut document)?.len() != rows.len() {
            let message = "the running text and the running plan have come apart; reload first";
            return Err(EditError::Unwritable(message.to_owned()));
        }
        Ok(Self { document, rows })
    }

    fn apply(&mut self, edit: &Edit) -> Result<(), EditError> {
        match edit {
            Edit::AddService { keys } => self.add_service(keys),
            Edit::EditService { service, keys } => {
                let row = self.find(service)?;
                set_keys(self.service(row)?, keys)
            }
            Edit::DeleteService { service } => {
                let row = self.find(service)?;
                self.rows.remove(row);
                service_tables(&mut self.document)?.remove(row);
                Ok(())
            }
            Edit::PutService { service, keys } => self.put_service(service, keys),
            Edit::AddBackend { service, keys } => self.add_backend(service, keys),
            Edit::PutBackend { service, backend, keys } => {
                self.put_backend(service, *backend, keys)
            }
            Edit::EditBackend { service, backend, keys } => {
                let (row, place) = self.find_backend(service, *backend)?;
                set_keys(self.backend(row, place)?, keys)
            }
            Edit::DeleteBackend { service, backend } => {
                let (row, place) = self.find_backend(service, *backend)?;
                if let Some(row) = self.rows.get_mut(row) {
                    row.backends.remove(place);
                }
                backend_tables(self.service(row)?)?.remove(place);
                Ok(())
            }
            Edit::AddLocalAddress { service, address } => self.local(service, *address, true),
            Edit::DeleteLocalAddress { service, address } => self.local(service, *address, false),
            Edit::DeleteServices => {
                self.rows.clear();
                self.document.remove("service");
                Ok(())
            }
            Edit::SetTimeouts { keys } => {
                let table = self.document.entry("timeouts").or_insert_with(toml_edit::table);
                let table = table.as_table_mut();
                let message = "write the timeouts as a table, [timeouts]";
                set_keys(table.ok_or_else(|| EditError::Unwritable(message.to_owned()))?, keys)
            }
        }
    }

    fn add_service(&mut self, keys: &Keys) -> Result<(), EditError> {
        let text = |key| keys.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let (protocol, address) = (text("protocol"), text("address"));
        let place = place(protocol, address);
        let place = place.ok_or_else(|| EditError::BadPlace(format!("{protocol} {address}")))?;
        let is_everybodys = !keys.contains_key("clients");
        let same = |row: &Row| row.is_everybodys && is_everybodys && row.place == place;
        if self.rows.iter().any(same) {
            return Err(EditError::ServiceExists(format!("{protocol} {address}")));
        }
        let name = match keys.get("name").and_then(serde_json::Value::as_str) {
            Some(name) => name.to_owned(),
            None => self.name_for(place),
        };
        let mut all = Keys::new();
        all.insert("name".to_owned(), name.clone().into());
        all.extend(keys.iter().map(|(key, value)| (key.clone(), value.clone())));
        service_tables(&mut self.document)?.push(table_of(&all)?);
        self.rows.push(Row { name, place, is_everybodys, backends: Vec::new() });
        Ok(())
    }

    /// A name that says where the service is, and is nobody else's.
    fn name_for(&self, (protocol, address): (Protocol, ServiceAddress)) -> String {
        let vip = address.vip.to_string().replace(':', "-");
        let Ports { first, last } = address.ports;
        let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
        let name = format!("{protocol}-{vip}-{ports}");
        let taken: HashSet<&str> = self.rows.iter().map(|row| row.name.as_str()).collect();
        let mut names =
            std::iter::once(name.clone()).chain((2..).map(|n: u32| format!("{name}.{n}")));
        names.find(|name| !taken.contains(name.as_str())).unwrap_or(name)
    }

    fn add_backend(&mut self, service: &Which, keys: &Keys) -> Result<(), EditError> {
        let row = self.find(service)?;
        let text = keys.get("address").and_then(serde_json::Value::as_str).unwrap_or_default();
        let address: SocketAddr =
            text.parse().map_err(|_| EditError::BadPlace(format!("backend {text}")))?;
        if let Some(known) = self.rows.get_mut(row) {
            if known.backends.contains(&address) {
                let (service, backend) = (known.name.clone(), address.to_string());
                return Err(EditError::BackendExists { service, backend });
            }
            known.backends.push(address);
        }
        backend_tables(self.service(row)?)?.push(table_of(keys)?);
        Ok(())
    }

    fn put_service(&mut self, name: &str, keys: &Keys) -> Result<(), EditError> {
        let all = with(keys, "name", name)?;
        let Ok(row) = self.find(&Which::Name(name.to_owned())) else {
            return self.add_service(&all);
        };
        replace_keys(self.service(row)?, &all, &["backend"])?;
        let text = |key| all.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let place = place(text("protocol"), text("address"));
        if let Some(known) = self.rows.get_mut(row) {
            known.place = place.unwrap_or(known.place);
            known.is_everybodys = !all.contains_key("clients");
            if let Some(backends) = all.get("backend").and_then(serde_json::Value::as_array) {
                let address = |it: &serde_json::Value| it.get("address")?.as_str()?.parse().ok();
                known.backends = backends.iter().filter_map(address).collect();
            }
        }
        Ok(())
    }

    fn put_backend(
        &mut self,
        service: &Which,
        backend: SocketAddr,
        keys: &Keys,
    ) -> Result<(), EditError> {
        let all = with(keys, "address", &backend.to_string())?;
        match self.find_backend(service, backend) {
            Ok((row, place)) => replace_keys(self.backend(row, place)?, &all, &[]),
            Err(EditError::NoBackend { .. }) => self.add_backend(service, &all),
            Err(error) => Err(error),
        }
    }

    fn local(&mut self, service: &Which, address: IpAddr, is_new: bool) -> Result<(), EditError> {
        let row = self.find(service)?;
        let list = written::local_addresses(self.service(row)?)?;
        let place = list.iter().position(|it| {
            it.as_str().and_then(|text| text.parse::<IpAddr>().ok()) == Some(address)
        });
        match (is_new, place) {
            (true, None) => list.push(address.to_string()),
            (false, Some(place)) => drop(list.remove(place)),
            (_, place) => {
                let service = self.rows.get(row).map_or_else(String::new, |it| it.name.clone());
                let backend = format!("local address {address}");
                return Err(match place {
                    Some(_) => EditError::BackendExists { service, backend },
                    None => EditError::NoBackend { service, backend },
                });
            }
        }
        Ok(())
    }

    /// The place of a service.
    fn find(&self, which: &Which) -> Result<usize, EditError> {
        let found = match which {
            Which::Name(name) => self.rows.iter().position(|row| row.name == *name),
            Which::Place { protocol, address } => {
                let said = which.to_string();
                let place = place(protocol, address);
                let place = place.ok_or_else(|| EditError::BadPlace(said.clone()))?;
                let mut there = self.rows.iter().filter(|row| row.place == place).peekable();
                let is_known = there.peek().is_some();
                let mine = |row: &Row| row.place == place && row.is_everybodys;
                let found = self.rows.iter().position(mine);
                if found.is_none() && is_known {
                    return Err(EditError::Ambiguous(said));
                }
                found
            }
        };
        found.ok_or_else(|| EditError::NoService(which.to_string()))
    }

    fn find_backend(
        &self,
        which: &Which,
        backend: SocketAddr,
    ) -> Result<(usize, usize), EditError> {
        let place = self.find(which)?;
        let row = self.rows.get(place);
        let found = row.and_then(|row| row.backends.iter().position(|it| *it == backend));
        let found = found.ok_or_else(|| EditError::NoBackend {
            service: row.map_or_else(String::new, |row| row.name.clone()),
            backend: backend.to_string(),
        })?;
        Ok((place, found))
    }

    fn service(&mut self, row: usize) -> Result<&mut Table, EditError> {
        let apart = || EditError::Unwritable("a service has no table".to_owned());
        service_tables(&mut self.document)?.get_mut(row).ok_or_else(apart)
    }

    fn backend(&mut self, row: usize, place: usize) -> Result<&mut Table, EditError> {
        let apart = || EditError::Unwritable("a backend has no table".to_owned());
        backend_tables(self.service(row)?)?.get_mut(place).ok_or_else(apart)
    }
}

/// Keys with the one that something is put under; it may be among them, if it says the same.
fn with(keys: &Keys, key: &str, value: &str) -> Result<Keys, EditError> {
    let mut all = keys.clone();
    match all.insert(key.to_owned(), value.into()) {
        Some(other) if other != value => {
            let message = format!("{key} is {other} in the body and {value} in the path");
            Err(EditError::Invalid(message))
        }
        _ => Ok(all),
    }
}

/// The tables under this key, those of an inline list made into tables of their own.
fn tables<'a>(item: &'a mut Item, key: &str) -> Result<&'a mut ArrayOfTables, EditError> {
    if item.is_none() || item.as_array().is_some_and(toml_edit::Array::is_empty) {
        *item = Item::ArrayOfTables(ArrayOfTables::new());
    }
    if item.is_array() {
        let inline = std::mem::take(item);
        *item = inline.into_array_of_tables().map_or_else(|item| item, Item::ArrayOfTables);
    }
    let message = || EditError::Unwritable(format!("`{key}` is no list of tables"));
    item.as_array_of_tables_mut().ok_or_else(message)
}

#[cfg(test)]
mod tests;
