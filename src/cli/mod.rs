//! `shunt`: asks the daemon over its admin socket and prints what it says.
//!
//! One request, one answer, as a plain table in the manner of `ipvsadm` or, with `--json`, as the
//! daemon's own JSON. Exit codes: 0 all well, 1 the daemon is not there or refused, 2 the command
//! line is wrong. `shunt diff` exits as diff(1) does, `shunt ipvsadm` as `ipvsadm`, `shunt capture`
//! as the `tcpdump` that prints for it. `shunt schedule`, `check`, `schema`,
//! `import`, `doctor`, `completion` and `man` ask no daemon.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::control::admin::answers::dump::{Parameters, Templates};
use crate::control::admin::answers::explain::Explanation;
use crate::control::admin::answers::{self, clear};
use crate::control::admin::view;

pub mod capture;
pub mod change;
pub mod completion;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod drain;
pub mod explain;
pub mod import;
pub mod ipvsadm;
pub mod rates;
pub mod remote;
pub mod request;
pub mod schedule;
pub mod tables;
#[cfg(feature = "top")]
pub mod top;
pub mod trace;
pub mod watch;

use rates::{Rates, Reading};
use remote::Remote;
use tables::parts::{AllDrops, Backends, Ports, Workers};

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
    /// A daemon elsewhere, as https://HOST:PORT: asked over TLS, with a token
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SHUNT_ADDRESS",
        help_heading = "A daemon elsewhere"
    )]
    address: Option<String>,
    /// The file with its token
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SHUNT_TOKEN_FILE",
        help_heading = "A daemon elsewhere"
    )]
    token_file: Option<PathBuf>,
    /// Who may vouch for its certificate, in PEM; this machine's authorities unless said
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SHUNT_CA_FILE",
        help_heading = "A daemon elsewhere"
    )]
    ca_file: Option<PathBuf>,
    /// Print the daemon's JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

impl Arguments {
    /// The exit code if nothing came of it: of `diff`, whose 1 says that something differs, 2 as with diff(1).
    pub fn trouble(&self) -> u8 {
        if matches!(self.command, Command::Change(change::Change::Diff { .. })) {
            config::BAD_INPUT
        } else {
            1
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show version, memory, workers, ports, refused packets and the last reload
    Status,
    /// Show services and their backends
    Services,
    /// Show backends, a line each
    Backends {
        /// Only those of this service
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
    },
    /// Show ports and what they carried
    Ports,
    /// Show workers and how busy they are
    Workers,
    /// Show why packets were refused, or lost by a card, the most frequent reason first
    Drops,
    /// Show what happens in a second: ports, workers, services, backends, refused packets
    Rates {
        /// Seconds to count for
        #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
        /// How often
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        count: u64,
    },
    /// Watch services, backends, workers and ports; keys are shown at the bottom
    #[cfg(feature = "top")]
    Top {
        /// Seconds between two looks
        #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
    },
    /// List connections
    Connections(Filter),
    /// End connections, and tell both ends; says how many when it is done
    Clear(Cleared),
    /// Copy frames as they are received and sent, for tcpdump or into a pcapng file
    Capture(capture::Capture),
    /// Say what would become of a packet of a flow, and why; makes no connection
    Explain(explain::Explain),
    /// Follow the next packets of a flow, stage by stage
    Trace(trace::Trace),
    /// Tell what happens, as it happens: backends, reloads, edits, drift, next hops
    Watch(watch::Watch),
    #[command(flatten)]
    Change(change::Change),
    /// Show which backends a scheduler would choose; asks no daemon
    Schedule(schedule::Schedule),
    /// Make a shunt.toml of another balancer's configuration; asks no daemon
    Import(import::Import),
    /// Say what of this machine is not fit for shuntd, and the command that mends it; asks no daemon
    Doctor(doctor::Doctor),
    /// Print what a shell needs to complete commands and options
    Completion(completion::Completion),
    /// Print the manual page, or write one for each command
    Man(completion::Manual),
}

impl Command {
    /// What is for programs, of those who have no JSON.
    fn instead_of_json(&self) -> Option<&'static str> {
        match self {
            #[cfg(feature = "top")]
            Self::Top { .. } => Some("`shunt rates --json` has the figures"),
            Self::Capture(_) => Some("it prints pcapng, which `tcpdump -r -` and others read"),
            Self::Change(change::Change::Ipvsadm { .. }) => {
                Some("it prints what ipvsadm prints; `shunt services --json` has more")
            }
            Self::Completion(_) | Self::Man(_) => Some("it prints what shells and man read"),
            _ => None,
        }
    }
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
    /// Behind them which clients persistence sends where: state NONE, and port 0
    #[arg(long)]
    templates: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
}

impl Arguments {
    /// Is JSON asked for, where there is any?
    fn json(&self) -> Result<bool, RequestError> {
        match self.command.instead_of_json().filter(|_| self.json) {
            None => Ok(self.json),
            Some(instead) => Err(RequestError::NoJson(instead)),
        }
    }

    /// Where the daemon is asked.
    fn place(&self) -> Result<Socket, RequestError> {
        match &self.address {
            None => Ok(Socket::new(&self.socket)),
            Some(address) => {
                let (token_file, ca_file) = (self.token_file.as_deref(), self.ca_file.as_deref());
                Ok(Remote::new(address, token_file, ca_file)?.into())
            }
        }
    }
}

/// Does what the command line says and writes the answer to `out`, remarks to `err`. The exit code: not 0 if the
/// daemon refused what was asked, and has said why in its answer.
pub fn run(
    arguments: &Arguments,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<u8, RequestError> {
    let json = arguments.json()?;
    let socket = arguments.place()?;
    match &arguments.command {
        Command::Status => {
            let status: view::Status = socket.get("/status")?;
            print(out, json, &status, tables::status)?;
        }
        Command::Services => {
            let services: view::Services = socket.get("/services")?;
            print(out, json, &services, tables::services)?;
        }
        Command::Backends { service } => {
            let all: view::Services = socket.get("/services")?;
            let backends = Backends::of(all, service.as_deref());
            let backends = backends.ok_or_else(|| no_such(service.as_deref()))?;
            print(out, json, &backends, Backends::text)?;
        }
        Command::Ports => {
            let status: view::Status = socket.get("/status")?;
            print(out, json, &Ports { ports: status.ports }, Ports::text)?;
        }
        Command::Workers => {
            let status: view::Status = socket.get("/status")?;
            print(out, json, &Workers { workers: status.workers }, Workers::text)?;
        }
        Command::Drops => {
            let status: view::Status = socket.get("/status")?;
            print(out, json, &AllDrops::new(status.drops, &status.ports), AllDrops::text)?;
        }
        Command::Rates { interval, count } => {
            rates(&socket, Duration::from_secs(*interval), *count, json, out)?;
        }
        #[cfg(feature = "top")]
        Command::Top { interval } => top::run(&socket, Duration::from_secs(*interval))?,
        Command::Connections(filter) => {
            let templates = filter.templates.then_some(Templates::Too);
            let connections = pages(&socket, Some(filter), templates)?;
            print(out, json, &connections, tables::connections)?;
        }
        Command::Clear(Cleared { service, backend, all }) => {
            let (service, backend, all) = (service.clone(), backend.clone(), *all);
            let asked = clear::Parameters { service, backend, all };
            let cleared: view::Cleared = socket.post_with("/clear", &asked)?;
            print(out, json, &cleared, tables::cleared)?;
        }
        Command::Capture(asked) => return capture::run(asked, &socket, out, err),
        Command::Explain(asked) => {
            let (flow, port) = (asked.flow.to_string(), asked.port.clone());
            let parameters = answers::explain::Parameters { flow, port };
            let found: Explanation = socket.get_with("/explain", &parameters)?;
            print(out, json, &found, explain::table)?;
        }
        Command::Trace(asked) => trace::run(asked, &socket, json, out)?,
        Command::Watch(asked) => watch::run(asked, &socket, json, out)?,
        Command::Change(change) => return change.run(&socket, json, out, err),
        Command::Schedule(asked) => schedule::run(asked, json, out, err)?,
        Command::Import(asked) => return Ok(u8::from(!import::run(asked, json, out, err)?)),
        Command::Doctor(asked) => {
            let report = doctor::run(asked);
            print(out, json, &report, doctor::table)?;
            return Ok(u8::from(!report.success()));
        }
        Command::Completion(asked) => {
            completion::completion(*asked, out).map_err(RequestError::Output)?;
        }
        Command::Man(asked) => completion::manual(asked, out)?,
    }
    Ok(0)
}

/// Called as one of the `ipvsadm` programs. The exit code.
pub fn run_ipvsadm(
    program: ipvsadm::Program,
    line: Vec<String>,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let path = std::env::var_os("SHUNT_SOCKET").map_or_else(|| SOCKET.into(), PathBuf::from);
    let (socket, mut input) = (Socket::new(&path), std::io::stdin().lock());
    ipvsadm::Session { socket: &socket, input: &mut input, out, err }.run(program, line)
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

/// What happens in each of so many intervals.
fn rates(
    socket: &Socket,
    interval: Duration,
    count: u64,
    json: bool,
    out: &mut impl Write,
) -> Result<(), RequestError> {
    let mut before = Reading::take(socket)?;
    for _ in 0..count {
        std::thread::sleep(interval);
        let now = Reading::take(socket)?;
        print(out, json, &Rates::between(&before, &now), tables::rates)?;
        before = now;
    }
    Ok(())
}

fn no_such(service: Option<&str>) -> RequestError {
    let name = service.unwrap_or_default();
    RequestError::Refused(format!("there is no service {name:?}; `shunt services` lists them"))
}

/// Turns pages until the filter's limit or the end.
fn pages(
    socket: &Socket,
    filter: Option<&Filter>,
    templates: Option<Templates>,
) -> Result<view::Connections, RequestError> {
    let limit = filter.map_or(usize::MAX, |it| usize::try_from(it.limit).unwrap_or(usize::MAX));
    let (service, backend, client) = filter.map_or((None, None, None), |it| {
        (it.service.clone(), it.backend.clone(), it.client.clone())
    });
    let mut all = view::Connections::default();
    let mut cursor = None;
    loop {
        let page: view::Connections = socket.get_with(
            "/connections",
            &Parameters {
                cursor,
                limit: Some(limit - all.connections.len()),
                service: service.clone(),
                backend: backend.clone(),
                client: client.clone(),
                templates,
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
