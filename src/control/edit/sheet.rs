//! A document that is edited: each edit finds its table and changes it; what is deleted goes at the end.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use toml_edit::{ArrayOfTables, DocumentMut, Table};

use super::rows::{Backends, Row, Rows};
use super::written::{
    backend_tables, local_addresses, replace_keys, service_tables, set_keys, table_of,
};
use super::{Edit, EditError, Keys, Which, said};
use crate::control::config::files::File;
use crate::control::config::place;
use crate::control::config::plan::Plan;

/// A document, and who is where in it.
#[derive(Debug)]
pub(super) struct Sheet {
    document: DocumentMut,
    rows: Rows,
}

impl Sheet {
    /// `plan` is what the document says, and the files it includes behind it.
    pub(super) fn new(
        mut document: DocumentMut,
        plan: &Plan,
        included: &[File],
    ) -> Result<Self, EditError> {
        let own = service_tables(&mut document)?.len();
        let elsewhere: usize = included.iter().map(|file| file.services).sum();
        if own + elsewhere != plan.services.len() {
            let message = "the running text and the running plan have come apart; reload first";
            return Err(EditError::Unwritable(message.to_owned()));
        }
        let homes = included.iter().flat_map(|file| std::iter::repeat_n(&file.path, file.services));
        let homes = std::iter::repeat_n(None, own).chain(homes.map(Some));
        let mut rows = Rows::default();
        for ((place, service), home) in plan.services.iter().enumerate().zip(homes) {
            rows.push(Row { place, elsewhere: home.cloned(), ..Row::from(service) });
        }
        Ok(Self { document, rows })
    }

    pub(super) fn apply(&mut self, edit: &Edit) -> Result<(), EditError> {
        match edit {
            Edit::AddService { keys } => self.add_service(keys),
            Edit::EditService { service, keys } => self.edit_service(service, keys),
            Edit::DeleteService { service } => {
                let row = self.rows.find(service)?;
                self.rows.delete(row);
                Ok(())
            }
            Edit::PutService { service, keys } => self.put_service(service, keys),
            Edit::AddBackend { service, keys } => self.add_backend(service, keys),
            Edit::PutBackend { service, backend, keys } => {
                self.put_backend(service, *backend, keys)
            }
            Edit::EditBackend { service, backend, keys } => {
                self.edit_backend(service, *backend, keys)
            }
            Edit::DeleteBackend { service, backend } => {
                let (row, _) = self.rows.find_backend(service, *backend)?;
                self.rows.delete_backend(row, *backend);
                Ok(())
            }
            Edit::AddLocalAddress { service, address } => self.local(service, *address, true),
            Edit::DeleteLocalAddress { service, address } => self.local(service, *address, false),
            Edit::DeleteServices => {
                self.rows.refuse_included()?;
                self.rows = Rows::default();
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

    /// The text, without what was deleted.
    pub(super) fn finish(mut self) -> Result<String, EditError> {
        for row in self.rows.iter().filter(|row| !row.backends.gone.is_empty()) {
            let apart = || EditError::Unwritable("a service has no table".to_owned());
            let tables = service_tables(&mut self.document)?;
            let service = tables.get_mut(row.place).ok_or_else(apart)?;
            without(backend_tables(service)?, &row.backends.gone);
        }
        let gone = self.rows.gone();
        if !gone.is_empty() {
            without(service_tables(&mut self.document)?, &gone);
        }
        Ok(self.document.to_string())
    }

    fn add_service(&mut self, keys: &Keys) -> Result<(), EditError> {
        let text = |key| keys.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let (protocol, address) = (text("protocol"), text("address"));
        let at = place(protocol, address);
        let at = at.ok_or_else(|| EditError::BadPlace(format!("{protocol} {address}")))?;
        let name = match keys.get("name").and_then(serde_json::Value::as_str) {
            Some(name) => name.to_owned(),
            None => self.rows.name_for(at),
        };
        let mut all = Keys::new();
        all.insert("name".to_owned(), name.clone().into());
        // As everywhere, a key that is null is one that is not there.
        let said = keys.iter().filter(|(_, value)| !value.is_null());
        all.extend(said.map(|(key, value)| (key.clone(), value.clone())));
        let mut table = table_of(&all)?;
        let is_everybodys = said::is_everybodys(&table);
        if is_everybodys && self.rows.is_taken(at) {
            return Err(EditError::ServiceExists(format!("{protocol} {address}")));
        }
        let backends = backends_of(&mut table)?;
        let tables = service_tables(&mut self.document)?;
        let place = tables.len();
        tables.push(table);
        self.rows.push(Row { name, at, is_everybodys, backends, place, elsewhere: None });
        Ok(())
    }

    fn edit_service(&mut self, service: &Which, keys: &Keys) -> Result<(), EditError> {
        let row = self.rows.find(service)?;
        set_keys(self.service(row)?, keys)?;
        self.read_back(row, keys)
    }

    fn add_backend(&mut self, service: &Which, keys: &Keys) -> Result<(), EditError> {
        let row = self.rows.find(service)?;
        let text = keys.get("address").and_then(serde_json::Value::as_str).unwrap_or_default();
        let address = text.parse().map_err(|_| EditError::BadPlace(format!("backend {text}")))?;
        self.rows.add_backend(row, address)?;
        backend_tables(self.service(row)?)?.push(table_of(keys)?);
        Ok(())
    }

    fn put_service(&mut self, name: &str, keys: &Keys) -> Result<(), EditError> {
        let all = with(keys, "name", name)?;
        let row = match self.rows.find(&Which::Name(name.to_owned())) {
            Err(EditError::NoService(_)) => return self.add_service(&all),
            row => row?,
        };
        replace_keys(self.service(row)?, &all, &["backend"])?;
        self.read_back(row, &all)
    }

    /// From now on a service, and its backends if they are among the `keys` that were set, are found by what its table
    /// says.
    fn read_back(&mut self, row: usize, keys: &Keys) -> Result<(), EditError> {
        let table = table_at(&mut self.document, &self.rows, row)?;
        self.rows.rename(row, table);
        if keys.contains_key("backend") {
            self.rows.replace_backends(row, backends_of(table)?);
        }
        Ok(())
    }

    fn edit_backend(
        &mut self,
        service: &Which,
        backend: SocketAddr,
        keys: &Keys,
    ) -> Result<(), EditError> {
        let (row, place) = self.rows.find_backend(service, backend)?;
        let table = self.backend(row, place)?;
        set_keys(table, keys)?;
        let now = said::address(table).unwrap_or(backend);
        self.rows.move_backend(row, backend, now)
    }

    fn put_backend(
        &mut self,
        service: &Which,
        backend: SocketAddr,
        keys: &Keys,
    ) -> Result<(), EditError> {
        let all = with(keys, "address", &backend.to_string())?;
        match self.rows.find_backend(service, backend) {
            Ok((row, place)) => replace_keys(self.backend(row, place)?, &all, &[]),
            Err(EditError::NoBackend { .. }) => self.add_backend(service, &all),
            Err(error) => Err(error),
        }
    }

    fn local(&mut self, service: &Which, address: IpAddr, is_new: bool) -> Result<(), EditError> {
        let row = self.rows.find(service)?;
        let list = local_addresses(self.service(row)?)?;
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

    fn service(&mut self, row: usize) -> Result<&mut Table, EditError> {
        table_at(&mut self.document, &self.rows, row)
    }

    fn backend(&mut self, row: usize, place: usize) -> Result<&mut Table, EditError> {
        let apart = || EditError::Unwritable("a backend has no table".to_owned());
        backend_tables(self.service(row)?)?.get_mut(place).ok_or_else(apart)
    }
}

/// The table of a service in a row.
fn table_at<'a>(
    document: &'a mut DocumentMut,
    rows: &Rows,
    row: usize,
) -> Result<&'a mut Table, EditError> {
    let apart = || EditError::Unwritable("a service has no table".to_owned());
    let place = rows.get(row).map(|row| row.place);
    let tables = service_tables(document)?;
    place.and_then(|place| tables.get_mut(place)).ok_or_else(apart)
}

/// The backends a service's table says.
fn backends_of(service: &mut Table) -> Result<Backends, EditError> {
    if service.get("backend").is_none() {
        return Ok(Backends::default());
    }
    Ok(backend_tables(service)?.iter().map(said::address).collect())
}

/// Takes out the tables at these places.
fn without(tables: &mut ArrayOfTables, gone: &HashSet<usize>) {
    let mut places = 0..;
    tables.retain(|_| places.next().is_none_or(|place| !gone.contains(&place)));
}

/// Keys with the one that something is put under; it may be among them, if it says the same, or nothing.
fn with(keys: &Keys, key: &str, value: &str) -> Result<Keys, EditError> {
    let mut all = keys.clone();
    match all.insert(key.to_owned(), value.into()) {
        Some(other) if other != value && !other.is_null() => {
            let message = format!("{key} is {other} in the body and {value} in the path");
            Err(EditError::Invalid(message))
        }
        _ => Ok(all),
    }
}
