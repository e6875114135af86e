//! Requests as edits in the words of the file, and the daemon's refusals as `ipvsadm`'s.

use serde_json::{Value, json};

use super::messages::Refusal;
use super::request::{Key, Request, Server, Service};
use crate::cli::RequestError;
use crate::control::admin::view::EditKind;
use crate::control::config::mode::Spelled;
use crate::control::edit::{Edit, Keys, Which};
use crate::dataplane::sched::Scheduler;

/// The edit a request is; `None` for those that change no configuration.
pub(super) fn edit(request: &Request) -> Result<Option<Edit>, Refusal> {
    Ok(Some(match request {
        Request::AddService(service) => {
            let mut keys = place_keys(service.key)?;
            keys.extend(service_keys(service)?.into_iter().filter(|(_, value)| !value.is_null()));
            // New backends bring their own; this is only what the service asks for without any.
            keys.insert("mode".to_owned(), "dr".into());
            Edit::AddService { keys }
        }
        Request::EditService(service) => {
            Edit::EditService { service: which(service.key)?, keys: service_keys(service)? }
        }
        Request::DeleteService(key) => Edit::DeleteService { service: which(*key)? },
        Request::AddServer(key, server) => {
            let mut keys = server_keys(server);
            keys.insert("address".to_owned(), server.address.to_string().into());
            let keys = keys.into_iter().filter(|(_, value)| !value.is_null()).collect();
            Edit::AddBackend { service: which(*key)?, keys }
        }
        Request::EditServer(key, server) => Edit::EditBackend {
            service: which(*key)?,
            backend: server.address,
            keys: server_keys(server),
        },
        Request::DeleteServer(key, backend) => {
            Edit::DeleteBackend { service: which(*key)?, backend: *backend }
        }
        Request::AddLocal(key, address) => {
            Edit::AddLocalAddress { service: which(*key)?, address: *address }
        }
        Request::DeleteLocal(key, address) => {
            Edit::DeleteLocalAddress { service: which(*key)?, address: *address }
        }
        Request::Clear => Edit::DeleteServices,
        Request::Set { tcp_s, tcp_fin_s, udp_s } => {
            let named =
                [("tcp_established_s", tcp_s), ("tcp_fin_wait_s", tcp_fin_s), ("udp_s", udp_s)];
            let said = named.into_iter().filter(|(_, seconds)| **seconds > 0);
            let keys = said.map(|(key, seconds)| (key.to_owned(), json!(seconds))).collect();
            Edit::SetTimeouts { keys }
        }
        _ => return Ok(None),
    }))
}

/// A service by where it is. One by a mark is never there.
pub(super) fn which(key: Key) -> Result<Which, Refusal> {
    match key {
        Key::Place { protocol, address } => {
            Ok(Which::Place { protocol: protocol.to_string(), address: address.to_string() })
        }
        Key::Mark { .. } => Err(Refusal::NoService),
    }
}

fn place_keys(key: Key) -> Result<Keys, Refusal> {
    let Key::Place { protocol, address } = key else {
        return Err(Refusal::Unsupported(
            "fwmark services are not supported: Shunt sees packets before the kernel marks them",
        ));
    };
    let keys = [("protocol", protocol.to_string()), ("address", address.to_string())];
    Ok(keys.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect())
}

/// All that `-A` and `-E` say; `null` where the default holds.
fn service_keys(service: &Service) -> Result<Keys, Refusal> {
    let Service { scheduler, persistent_s, prefix, is_ops, engine, .. } = service;
    let invalid = |reason: String| Err(Refusal::InvalidOperation(reason));
    if persistent_s.is_some() && service.has_odd_mask {
        return invalid("a persistence mask is ones, then zeros".to_owned());
    }
    // One that is not known has no flags either; the daemon refuses it.
    let flags = match Scheduler::named(scheduler) {
        Some(known) => service.flags.names(known),
        None => Some(Vec::new()),
    };
    let Some(flags) = flags else {
        return invalid(format!("scheduler {scheduler} has no such flag"));
    };
    let persistence_prefix = persistent_s.and(*prefix);
    let keys = [
        ("scheduler", json!(scheduler)),
        ("scheduler_flags", if flags.is_empty() { Value::Null } else { json!(flags) }),
        ("one_packet", if *is_ops { json!(true) } else { Value::Null }),
        ("persistence_s", json!(persistent_s)),
        ("persistence_prefix", json!(persistence_prefix)),
        // Refused as an unknown key: there is none.
        ("persistence_engine", json!(engine)),
    ];
    Ok(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// All that `-a` and `-e` say but the address; `null` where the default holds.
fn server_keys(server: &Server) -> Keys {
    let some = |number: u32| if number > 0 { json!(number) } else { Value::Null };
    let Spelled { mode, tunnel } = server.forward.into();
    let keys = [
        ("weight", json!(server.weight)),
        ("max_connections", some(server.upper)),
        ("resume_below", some(server.lower)),
        ("mode", json!(mode)),
        ("tunnel", json!(tunnel)),
    ];
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What `ipvsadm` would say of what the daemon refuses.
pub(super) fn refusal(request: &Request, error: RequestError) -> Refusal {
    let (kind, error) = match error {
        RequestError::NotAllowed(_) => return Refusal::NotAllowed(error.to_string()),
        RequestError::Edit { kind, error } => (kind, error),
        other => return Refusal::Unreachable(other.to_string()),
    };
    match kind {
        EditKind::ServiceExists => Refusal::ServiceExists,
        EditKind::NoService if is_about_servers(request) => Refusal::NotDefined,
        EditKind::NoService => Refusal::NoService,
        EditKind::BackendExists => Refusal::ServerExists,
        EditKind::NoBackend => Refusal::NoServer,
        EditKind::Invalid => invalid(request, error),
        EditKind::Stale | EditKind::Refused => Refusal::InvalidOperation(error),
    }
}

pub(super) fn is_about_servers(request: &Request) -> bool {
    matches!(request, Request::AddServer(..) | Request::EditServer(..) | Request::DeleteServer(..))
}

fn invalid(request: &Request, error: String) -> Refusal {
    match request {
        Request::AddService(service) | Request::EditService(service)
            if service.engine.is_some() || Scheduler::named(&service.scheduler).is_none() =>
        {
            Refusal::NoScheduler
        }
        Request::AddServer(_, server) | Request::EditServer(_, server)
            if server.lower > server.upper =>
        {
            Refusal::OutOfRange
        }
        _ => Refusal::InvalidOperation(error),
    }
}
