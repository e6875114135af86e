//! Who is where in a text that is edited: services and backends found by what they are called, not by looking at all
//! of them.
//!
//! A request may hold thousands of edits and a file ten thousand services, so a name, a place and an address are each
//! one lookup. What is deleted keeps its row until all edits are made: rows are places in the text, and a row that went
//! at once would move all that come after it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use toml_edit::Table;

use super::{EditError, Which, said};
use crate::control::config::place;
use crate::control::config::plan::Service;
use crate::dataplane::snapshot::{Ports, Protocol, ServiceAddress};

/// Where clients find a service.
pub(super) type At = (Protocol, ServiceAddress);

/// What of a service it is found by.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) at: At,
    pub(super) is_everybodys: bool,
    pub(super) backends: Backends,
    /// Its table among all in the text that is edited.
    pub(super) place: usize,
    /// The file it stands in, if another.
    pub(super) elsewhere: Option<PathBuf>,
}

impl From<&Service> for Row {
    fn from(service: &Service) -> Self {
        Self {
            name: service.name.clone(),
            at: (service.protocol, service.address),
            is_everybodys: service.clients.is_empty(),
            backends: service.backends.iter().map(|backend| Some(backend.address)).collect(),
            place: 0,
            elsewhere: None,
        }
    }
}

/// A service's backends, by the place of their tables.
#[derive(Debug, Default)]
pub(super) struct Backends {
    places: HashMap<SocketAddr, usize>,
    /// Tables there are, those of `gone` included.
    tables: usize,
    pub(super) gone: HashSet<usize>,
}

impl FromIterator<Option<SocketAddr>> for Backends {
    fn from_iter<I: IntoIterator<Item = Option<SocketAddr>>>(addresses: I) -> Self {
        let mut backends = Self::default();
        for address in addresses {
            backends.push(address);
        }
        backends
    }
}

impl Backends {
    /// One more, behind all others; without an address it has a table, and is found by nothing.
    fn push(&mut self, address: Option<SocketAddr>) {
        if let Some(address) = address {
            self.places.entry(address).or_insert(self.tables);
        }
        self.tables += 1;
    }
}

/// All services, in the order of their tables.
#[derive(Debug, Default)]
pub(super) struct Rows {
    all: Vec<Row>,
    /// Several only until all edits are made, as with places of services that are everybody's.
    by_name: HashMap<String, Vec<usize>>,
    by_place: HashMap<At, Vec<usize>>,
    gone: HashSet<usize>,
}

impl Rows {
    /// Places of the tables of services that go.
    pub(super) fn gone(&self) -> HashSet<usize> {
        self.gone.iter().filter_map(|row| Some(self.get(*row)?.place)).collect()
    }

    pub(super) fn get(&self, row: usize) -> Option<&Row> {
        self.all.get(row)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.all.iter()
    }

    /// One more, behind all others.
    pub(super) fn push(&mut self, row: Row) {
        self.all.push(row);
        self.list(self.all.len() - 1);
    }

    /// Its table goes when all edits are made.
    pub(super) fn delete(&mut self, row: usize) {
        self.unlist(row);
        self.gone.insert(row);
    }

    /// From now on the service is found by what its table says. What the table does not say is kept: what comes of such an
    /// edit is refused when it is read.
    pub(super) fn rename(&mut self, row: usize, table: &Table) {
        self.unlist(row);
        if let Some(known) = self.all.get_mut(row) {
            known.is_everybodys = said::is_everybodys(table);
            known.at = said::at(table).unwrap_or(known.at);
            if let Some(name) = said::name(table) {
                name.clone_into(&mut known.name);
            }
        }
        self.list(row);
    }

    /// Its backends are those of these tables and no others.
    pub(super) fn replace_backends(&mut self, row: usize, backends: Backends) {
        if let Some(known) = self.all.get_mut(row) {
            known.backends = backends;
        }
    }

    fn list(&mut self, row: usize) {
        let Some(known) = self.all.get(row) else { return };
        self.by_name.entry(known.name.clone()).or_default().push(row);
        self.by_place.entry(known.at).or_default().push(row);
    }

    fn unlist(&mut self, row: usize) {
        let Some(known) = self.all.get(row) else { return };
        let named = self.by_name.get_mut(&known.name).into_iter();
        let placed = self.by_place.get_mut(&known.at).into_iter();
        named.chain(placed).for_each(|there| there.retain(|other| *other != row));
    }

    /// Is somebody's place everybody's service?
    pub(super) fn is_taken(&self, at: At) -> bool {
        self.everybodys(at).is_some()
    }

    fn named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name)?.first().copied()
    }

    fn everybodys(&self, at: At) -> Option<usize> {
        let there = self.by_place.get(&at)?;
        there.iter().copied().find(|row| self.get(*row).is_some_and(|row| row.is_everybodys))
    }

    /// A name that says where the service is, and is nobody else's.
    pub(super) fn name_for(&self, (protocol, address): At) -> String {
        let vip = address.vip.to_string().replace(':', "-");
        let Ports { first, last } = address.ports;
        let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
        let name = format!("{protocol}-{vip}-{ports}");
        let mut names =
            std::iter::once(name.clone()).chain((2..).map(|n: u32| format!("{name}.{n}")));
        names.find(|name| self.named(name).is_none()).unwrap_or(name)
    }

    /// The row of a service that can be edited.
    pub(super) fn find(&self, which: &Which) -> Result<usize, EditError> {
        let row = self.find_any(which)?;
        let known = self.get(row);
        match known.and_then(|known| Some((known, known.elsewhere.clone()?))) {
            Some((known, file)) => Err(EditError::Included { service: known.name.clone(), file }),
            None => Ok(row),
        }
    }

    /// Refuses if one of them stands elsewhere.
    pub(super) fn refuse_included(&self) -> Result<(), EditError> {
        let elsewhere = |row: &Row| Some((row.name.clone(), row.elsewhere.clone()?));
        match self.all.iter().find_map(elsewhere) {
            Some((service, file)) => Err(EditError::Included { service, file }),
            None => Ok(()),
        }
    }

    fn find_any(&self, which: &Which) -> Result<usize, EditError> {
        let found = match which {
            Which::Name(name) => self.named(name),
            Which::Place { protocol, address } => {
                let said = which.to_string();
                let at = place(protocol, address);
                let at = at.ok_or_else(|| EditError::BadPlace(said.clone()))?;
                let found = self.everybodys(at);
                if found.is_none() && self.by_place.get(&at).is_some_and(|there| !there.is_empty())
                {
                    return Err(EditError::Ambiguous(said));
                }
                found
            }
        };
        found.ok_or_else(|| EditError::NoService(which.to_string()))
    }

    /// The row of a service, and the place of one of its backends.
    pub(super) fn find_backend(
        &self,
        which: &Which,
        backend: SocketAddr,
    ) -> Result<(usize, usize), EditError> {
        let row = self.find(which)?;
        let known = self.get(row);
        let found = known.and_then(|known| known.backends.places.get(&backend).copied());
        let found = found.ok_or_else(|| EditError::NoBackend {
            service: known.map_or_else(String::new, |known| known.name.clone()),
            backend: backend.to_string(),
        })?;
        Ok((row, found))
    }

    /// Takes in a backend that the service does not have.
    pub(super) fn add_backend(&mut self, row: usize, backend: SocketAddr) -> Result<(), EditError> {
        let Some(known) = self.all.get_mut(row) else { return Ok(()) };
        if known.backends.places.contains_key(&backend) {
            let (service, backend) = (known.name.clone(), backend.to_string());
            return Err(EditError::BackendExists { service, backend });
        }
        known.backends.push(Some(backend));
        Ok(())
    }

    /// A backend is found by another address, which no other of the service's may have.
    pub(super) fn move_backend(
        &mut self,
        row: usize,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<(), EditError> {
        let Some(known) = self.all.get_mut(row).filter(|_| from != to) else { return Ok(()) };
        if known.backends.places.contains_key(&to) {
            let (service, backend) = (known.name.clone(), to.to_string());
            return Err(EditError::BackendExists { service, backend });
        }
        if let Some(place) = known.backends.places.remove(&from) {
            known.backends.places.insert(to, place);
        }
        Ok(())
    }

    /// Its table goes when all edits are made.
    pub(super) fn delete_backend(&mut self, row: usize, backend: SocketAddr) {
        let Some(known) = self.all.get_mut(row) else { return };
        if let Some(place) = known.backends.places.remove(&backend) {
            known.backends.gone.insert(place);
        }
    }
}
