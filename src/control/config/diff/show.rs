//! Changes as people read them: one line each, the first character saying what kind it is.

use std::fmt;

use super::{Change, Diff};
use crate::control::config::plan::{Backend, Service};

/// `name tcp 198.51.100.10:80, wrr, local 10.44.0.2, 3 backends`
fn summary(service: &Service) -> String {
    let Service { name, protocol, address, scheduler, local_addresses, backends } = service;
    let locals: Vec<String> = local_addresses.iter().map(ToString::to_string).collect();
    let (locals, count) = (locals.join(" "), backends.len());
    let plural = if count == 1 { "" } else { "s" };
    format!("{name} {protocol} {address}, {scheduler}, local {locals}, {count} backend{plural}")
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart { setting, from, to } => {
                write!(f, "! {setting}: {from} -> {to} (needs a restart)")
            }
            Self::Setting { setting, from, to } => write!(f, "~ {setting}: {from} -> {to}"),
            Self::ServiceAdded(service) => write!(f, "+ service {}", summary(service)),
            Self::ServiceRemoved(service) => write!(f, "- service {}", summary(service)),
            Self::ServiceSetting { service, setting, from, to } => {
                write!(f, "~ service {service}: {setting} {from} -> {to}")
            }
            Self::BackendAdded { service, backend: Backend { address, weight } } => {
                write!(f, "+ service {service}: backend {address} weight {weight}")
            }
            Self::BackendRemoved { service, backend: Backend { address, weight } } => {
                write!(f, "- service {service}: backend {address} weight {weight}")
            }
            Self::BackendWeight { service, address, from, to } => {
                let drain = if *to == 0 { " (drain)" } else { "" };
                write!(f, "~ service {service}: backend {address} weight {from} -> {to}{drain}")
            }
        }
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}
