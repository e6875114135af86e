//! What ids stand for, for listings and metrics.

use std::net::SocketAddr;

use super::Compiler;
use crate::dataplane::snapshot::{Protocol, ServiceAddress};
use crate::ids::{BackendId, ServiceId};

/// A service's name and address, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceName<'a> {
    /// Its name in the configuration (the last one, if it was removed).
    pub name: &'a str,
    /// Its protocol.
    pub protocol: Protocol,
    /// Where clients find it; the first, if at several addresses.
    pub address: ServiceAddress,
    /// Gone from the configuration; connections may still name it.
    pub removed: bool,
}

/// A backend's service and address, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendName {
    /// The service it serves.
    pub service: ServiceId,
    /// Its address and port.
    pub address: SocketAddr,
    /// Gone from the configuration; connections may still name it.
    pub removed: bool,
}

/// Names by id, those of removed things included until their ids are released.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    compiler: &'a Compiler,
}

impl<'a> Names<'a> {
    pub(super) fn of(compiler: &'a Compiler) -> Self {
        Self { compiler }
    }

    /// The service of that id, if the id is in use.
    pub fn service(&self, id: ServiceId) -> Option<ServiceName<'a>> {
        let (key, removed) = self.compiler.services.get(id.0)?;
        let name = &*self.compiler.memory.get(id.index())?.name;
        Some(ServiceName { name, protocol: key.protocol, address: key.address, removed })
    }

    /// The backend of that id, if the id is in use.
    pub fn backend(&self, id: BackendId) -> Option<BackendName> {
        let (key, removed) = self.compiler.backends.get(id.0)?;
        Some(BackendName { service: key.service, address: key.address, removed })
    }

    /// Ids of all services, removed ones included, ascending.
    pub fn services(&self) -> impl Iterator<Item = ServiceId> + use<'a> {
        self.compiler.services.used().map(ServiceId)
    }

    /// Ids of all backends, removed ones included, ascending.
    pub fn backends(&self) -> impl Iterator<Item = BackendId> + use<'a> {
        self.compiler.backends.used().map(BackendId)
    }
}
