//! The door to configuration, with the real parser and compiler behind it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use super::compile::Compiler;
use super::config;
use super::config::plan::Plan;
use super::parts::{Changes, Configure};
use crate::dataplane::snapshot::{NextHop, PortView, Snapshot};
use crate::ids::BackendId;
use crate::stats::collect::{BackendEntry, Names, ServiceEntry};

/// Configuration from `shunt.toml`, for ports that were brought up at start.
#[derive(Debug)]
pub struct TomlFile {
    compiler: Compiler,
    ports: Vec<PortView>,
}

impl TomlFile {
    /// No id given out yet.
    pub fn new(ports: Vec<PortView>) -> Self {
        Self { compiler: Compiler::new(), ports }
    }
}

impl Configure for TomlFile {
    fn load(&mut self, file: &Path) -> Result<Plan, String> {
        config::load(file).map_err(|error| error.to_string())
    }

    fn diff(&self, old: &Plan, new: &Plan) -> Changes {
        let diff = config::diff::diff(old, new);
        let restart = diff.needs_restart().map(ToString::to_string).collect();
        Changes { lines: diff.to_string().lines().map(str::to_owned).collect(), restart }
    }

    fn compile(
        &mut self,
        plan: &Plan,
        resolve: &dyn Fn(Ipv4Addr) -> Option<NextHop>,
        accepting: bool,
    ) -> Result<Arc<Snapshot>, String> {
        let compiled = self.compiler.compile(plan, &self.ports, resolve, accepting);
        compiled.map_err(|error| error.to_string())
    }

    fn release(
        &mut self,
        generation_everywhere: u64,
        has_connections: &dyn Fn(BackendId) -> bool,
    ) -> bool {
        !self.compiler.release(generation_everywhere, has_connections).is_empty()
    }

    fn names(&self) -> Names {
        let names = self.compiler.names();
        let service = |id| {
            let named = names.service(id)?;
            Some(ServiceEntry {
                id,
                name: named.name.to_owned(),
                protocol: named.protocol,
                address: named.address,
                removed: named.removed,
            })
        };
        let backend = |id| {
            let named = names.backend(id)?;
            let (service, address, removed) = (named.service, named.address, named.removed);
            Some(BackendEntry { id, service, address, removed })
        };
        Names {
            services: names.services().filter_map(service).collect(),
            backends: names.backends().filter_map(backend).collect(),
        }
    }
}
