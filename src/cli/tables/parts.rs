//! What `shunt status` and `shunt services` say, one part of it at a time.

use std::cmp::Reverse;

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
    /// Those that no worker has seen.
    pub losses: Vec<Lost>,
}

impl AllDrops {
    /// The most first.
    pub fn new(mut drops: Vec<Drops>, ports: &[Port]) -> Self {
        drops.sort_by_key(|drops| Reverse(drops.packets));
        Self { drops, losses: Lost::all(ports) }
    }

    /// A line for each.
    pub fn text(&self) -> String {
        let refused = super::drops(&self.drops);
        let refused = if refused.is_empty() { "nothing was refused\n".to_owned() } else { refused };
        let lost = super::losses(&self.losses);
        if lost.is_empty() { refused } else { format!("{refused}\n{lost}") }
    }
}

/// What a port's device lost by itself, for one reason.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The port.
    pub port: String,
    /// The metric's label.
    pub reason: String,
    /// What it means.
    pub meaning: String,
    /// How many.
    pub packets: u64,
}

impl Lost {
    /// Those that occurred, the most first.
    pub fn all(ports: &[Port]) -> Vec<Self> {
        let of = |port: &Port| {
            let name = port.name.clone();
            let losses = port.lost.map_or_else(Vec::new, |lost| lost.by_reason().to_vec());
            losses.into_iter().map(move |loss| Self {
                port: name.clone(),
                reason: loss.reason.to_owned(),
                meaning: loss.meaning.to_owned(),
                packets: loss.packets,
            })
        };
        let mut all: Vec<Self> = ports.iter().flat_map(of).filter(|it| it.packets > 0).collect();
        all.sort_by_key(|lost| Reverse(lost.packets));
        all
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
            "state",
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
