//! The real [`Configure`]: `shunt.toml` on one side, the compiler and its ids on the other.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::compile::Compiler;
use super::config::diff::{Change, diff};
use super::config::files::Files;
use super::config::plan::Plan;
use super::config::{self, Machine, Reading};
use super::edit::{self, Edit, EditError};
use super::edition::Written;
use super::neighbors::Way;
use super::parts::{Changes, Configure};
use crate::dataplane::access::Membership;
use crate::dataplane::snapshot::{PortView, Snapshot};
use crate::ids::BackendId;
use crate::stats::collect::{BackendEntry, Names, ServiceEntry};

/// Reads, compares and compiles configurations for one set of ports.
#[derive(Debug)]
pub struct Configured {
    compiler: Compiler,
    ports: Vec<PortView>,
    machine: Machine,
}

impl Configured {
    /// A configuration for the ports as they were started, on this machine.
    pub fn new(ports: Vec<PortView>, machine: Machine) -> Self {
        Self { compiler: Compiler::new(), ports, machine }
    }
}

impl Configure for Configured {
    fn load(&mut self, file: &Path) -> Result<Written, String> {
        config::load(file, &self.machine).map_err(|error| error.to_string())
    }

    fn look(&self, file: &Path) -> Result<Written, String> {
        let files = Files::read(file).map_err(|error| error.to_string())?;
        let reading = config::parse_files(&files, &self.machine);
        let Reading { plan, .. } = reading.map_err(|errors| errors.to_string())?;
        Ok(Written { plan, files })
    }

    fn edit(&self, files: &Files, plan: &Plan, edits: &[Edit]) -> Result<Written, EditError> {
        let files = files.with_text(edit::apply(files, plan, edits)?);
        let reading = config::parse_files(&files, &self.machine);
        let reading = reading.map_err(|errors| EditError::Invalid(errors.to_string()))?;
        Ok(Written { plan: reading.plan, files })
    }

    fn diff(&self, old: &Plan, new: &Plan) -> Changes {
        let diff = diff(old, new);
        let lines = diff.changes.iter().map(ToString::to_string).collect();
        let setting = |change: &Change| match change {
            Change::Restart { setting, .. } => Some(setting.clone()),
            _ => None,
        };
        Changes { lines, restart: diff.changes.iter().filter_map(setting).collect() }
    }

    fn compile(
        &mut self,
        plan: &Plan,
        resolve: &dyn Fn(IpAddr) -> Option<Way>,
        accepting: bool,
        members: Option<Arc<dyn Membership>>,
    ) -> Result<Arc<Snapshot>, String> {
        let compiled = self.compiler.compile(plan, &self.ports, resolve, accepting, members);
        compiled.map_err(|error| error.to_string())
    }

    fn release(
        &mut self,
        generation_everywhere: u64,
        has_connections: &dyn Fn(BackendId) -> bool,
    ) -> bool {
        let before = self.compiler.retired_backends();
        self.compiler.release(generation_everywhere, has_connections);
        self.compiler.retired_backends() < before
    }

    fn names(&self) -> Names {
        let names = self.compiler.names();
        let service = |id| {
            let found = names.service(id)?;
            let (protocol, address) = (found.protocol, found.address);
            Some(ServiceEntry {
                id,
                name: found.name.into(),
                protocol,
                address,
                removed: found.removed,
            })
        };
        let backend = |id| {
            let found = names.backend(id)?;
            let (service, address) = (found.service, found.address);
            Some(BackendEntry { id, service, address, removed: found.removed })
        };
        Names {
            services: names.services().filter_map(service).collect(),
            backends: names.backends().filter_map(backend).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("config/tests/base.toml");

    fn configured() -> Configured {
        Configured::new(vec![], Machine::here())
    }

    fn load(configured: &mut Configured, text: &str) -> Result<Plan, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text.replace("workers = [1, 2]", "workers = [0, 1]")).unwrap();
        configured.load(file.path()).map(|written| written.plan)
    }

    #[test]
    fn a_bad_file_is_told_with_line_and_column() {
        let error = load(&mut configured(), "nonsense = 1\n").unwrap_err();
        assert!(error.contains(":1:1"), "{error}");
    }

    #[test]
    fn what_was_compiled_has_names_until_it_is_released() {
        let mut configured = configured();
        let mut plan = load(&mut configured, FILE).unwrap();
        let first = configured.compile(&plan, &|_| None, true, None).unwrap();
        let names = configured.names();
        assert_eq!(names.services.len(), plan.services.len());
        assert!(names.services.iter().all(|service| !service.removed));
        plan.services.clear();
        let second = configured.compile(&plan, &|_| None, true, None).unwrap();
        assert!(configured.names().backends.iter().all(|backend| backend.removed));
        assert!(!configured.release(first.generation, &|_| false), "workers still use the old one");
        assert!(!configured.release(second.generation, &|_| true), "connections are left");
        assert!(configured.release(second.generation, &|_| false));
        assert_eq!(configured.names(), Names::default());
    }

    #[test]
    fn a_change_only_a_restart_makes_is_told_as_one() {
        let mut configured = configured();
        let plan = load(&mut configured, FILE).unwrap();
        assert_eq!(configured.diff(&plan, &plan), Changes::default());
        let mut other = plan.clone();
        other.daemon.memory_mb += 1;
        let changes = configured.diff(&plan, &other);
        assert_eq!((changes.lines.len(), changes.restart.len()), (1, 1), "{changes:?}");
        other = plan.clone();
        other.services.clear();
        let changes = configured.diff(&plan, &other);
        assert!(!changes.lines.is_empty() && changes.restart.is_empty(), "{changes:?}");
    }
}
