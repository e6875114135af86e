//! What `shunt status` and `shunt services` say, one part of it at a time.

use serde::Serialize;

use super::{ports, table, workers};
use crate::control::admin::view::{Backend, Drops, Port, Services, Worker};

/// `shunt workers`.
#[derive(Debug, Serialize)]
pub struct Workers {
    /// In order.
    pub workers: Vec<Worker>,
}

impl Workers {
    /// A line for each.
    pub fn text(&self) -> String {
        workers(&self.workers)
    }
}

/// `shunt ports`.
#[derive(Debug, Serialize)]
pub struct Ports {
    /// In order.
    pub ports: Vec<Port>,
}

impl Ports {
    /// A line for each.
    pub fn text(&self) -> String {
        ports(&self.ports)
    }
}

/// `shunt drops`.
#[derive(Debug, Serialize)]
pub struct AllDrops {
    /// Those that occurred, the most first.
    pub drops: Vec<Drops>,
}

impl AllDrops {
    /// The most first.
    pub fn new(mut drops: Vec<Drops>) -> Self {
        drops.sort_by_key(|drops| std::cmp::Reverse(drops.packets));
        Self { drops }
    }

    /// A line for each.
    pub fn text(&self) -> String {
        if self.drops.is_empty() {
            return "nothing was refused\n".into();
        }
        super::drops(&self.drops)
    }
}

/// `shunt backends`.
#[derive(Debug, Serialize)]
pub struct Backends {
    /// By service, as the file has them.
    pub backends: Vec<BackendOf>,
}

/// A backend, and whose it is.
#[derive(Debug, Serialize)]
pub struct BackendOf {
    /// The service's name.
    pub service: String,
    /// What is known of it.
    #[serde(flatten)]
    pub backend: Backend,
}

impl Backends {
    /// Those of one service, or all; `None` if there is no such service.
    pub fn of(services: Services, only: Option<&str>) -> Option<Self> {
        let mut wanted = services.services;
        wanted.retain(|service| only.is_none_or(|only| service.name == only));
        if only.is_some() && wanted.is_empty() {
            return None;
        }
        let all = wanted.into_iter().flat_map(|service| {
            let name = service.name;
            service.backends.into_iter().map(move |backend| (name.clone(), backend))
        });
        Some(Self {
            backends: all.map(|(service, backend)| BackendOf { service, backend }).collect(),
        })
    }

    /// A line for each.
    pub fn text(&self) -> String {
        if self.backends.is_empty() {
            return "no backends\n".into();
        }
        let headings = [
            "service",
            "backend",
            "forward",
            ">weight",
            ">connections",
            ">active",
            ">new",
            ">in packets",
            ">in bytes",
            ">out packets",
            ">out bytes",
            "",
        ];
        table(&headings, self.backends.iter().map(row).collect())
    }
}

fn row(of: &BackendOf) -> Vec<String> {
    let backend = &of.backend;
    let mut row = vec![
        of.service.clone(),
        backend.address.to_string(),
        backend.forward.as_ref().map_or_else(String::new, ToString::to_string),
        backend.weight.map_or_else(String::new, |weight| weight.to_string()),
        backend.connections.to_string(),
        backend.active_connections.to_string(),
        backend.new_connections.to_string(),
    ];
    row.extend(super::numbers(backend.volumes));
    row.push(super::remark(backend));
    row
}
