//! `shunt`: asks the daemon over its admin socket and prints what it says.
//!
//! One request, one answer, as a plain table in the manner of `ipvsadm` or, with `--json`, as the
//! daemon's own JSON. Exit codes: 0 all well, 1 the daemon is not there or refused, 2 the command
//! line is wrong. `shunt schedule` alone asks no daemon.

use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::control::admin::dump::Parameters;
use crate::control::admin::{clear, view};

pub mod config;
pub mod request;
pub mod schedule;
pub mod tables;

pub use request::{RequestError, Socket};

/// Where `shuntd` listens unless told otherwise.
pub const SOCKET: &str = "/run/shunt/admin.sock";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "shunt", version, about = "Asks a running shuntd", max_term_width = 100)]
pub struct Arguments {
    /// The daemon's admin socket
    #[arg(long, global = true, value_name = "PATH", default_value = SOCKET, env = "SHUNT_SOCKET")]
    socket: PathBuf,
    /// Print the daemon's JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show version, memory, workers, ports, refused packets and the last reload
    Status,
    /// Show services and their backends
    Services,
    /// List connections
    Connections(Filter),
    /// End connections, and tell both ends; says how many when it is done
    Clear(Cleared),
    /// Read the configuration file again, as SIGHUP does, and show what changed
    Reload,
    /// Show which backends a scheduler would choose; asks no daemon
    Schedule(schedule::Schedule),
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Cleared {
    /// Connections of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Connections to this backend; with `--service`, only that service's
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    backend: Option<String>,
    /// Every connection there is
    #[arg(long, conflicts_with_all = ["service", "backend"])]
    all: bool,
}

#[derive(Debug, clap::Args)]
struct Filter {
    /// Only connections of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only connections to this backend
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    backend: Option<String>,
    /// Only connections of this client
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    client: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
}

/// Does what the command line says and writes the answer to `out`, remarks to `err`. False if the daemon refused
/// what was asked, and has said why in its answer.
pub fn run(
    arguments: &Arguments,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<bool, RequestError> {
    let socket = Socket::new(&arguments.socket);
    let json = arguments.json;
    match &arguments.command {
        Command::Status => {
            let status: view::Status = socket.get("/status")?;
            print(out, json, &status, tables::status)?;
        }
        Command::Services => {
            let services: view::Services = socket.get("/services")?;
            print(out, json, &services, tables::services)?;
        }
        Command::Connections(filter) => {
            let connections = connections(&socket, filter)?;
            print(out, json, &connections, tables::connections)?;
        }
        Command::Clear(Cleared { service, backend, all }) => {
            let (service, backend) = (service.clone(), backend.clone());
            let parameters = clear::Parameters { service, backend, all: *all };
            let cleared: view::Cleared = socket.post_with("/clear", &parameters)?;
            print(out, json, &cleared, tables::cleared)?;
        }
        Command::Reload => {
            let outcome: view::Reload = socket.reload()?;
            print(out, json, &outcome, tables::reload)?;
            return Ok(outcome.result.success());
        }
        Command::Schedule(asked) => schedule::run(asked, json, out, err)?,
    }
    Ok(true)
}

fn print<T: serde::Serialize>(
    out: &mut impl Write,
    json: bool,
    answer: &T,
    table: fn(&T) -> String,
) -> Result<(), RequestError> {
    let text = if json {
        serde_json::to_string_pretty(answer).map_err(RequestError::Encode)? + "\n"
    } else {
        table(answer)
    };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(RequestError::Output)
}

/// Turns pages until the limit or the end.
fn connections(socket: &Socket, filter: &Filter) -> Result<view::Connections, RequestError> {
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let mut all = view::Connections::default();
    let mut cursor = None;
    loop {
        let page: view::Connections = socket.get_with(
            "/connections",
            &Parameters {
                cursor,
                limit: Some(limit - all.connections.len()),
                service: filter.service.clone(),
                backend: filter.backend.clone(),
                client: filter.client.clone(),
            },
        )?;
        all.connections.extend(page.connections);
        all.next.clone_from(&page.next);
        if all.connections.len() >= limit || page.next.is_none() {
            return Ok(all);
        }
        cursor = page.next;
    }
}
