//! The commands that change what runs, or say how it differs from a file.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;

use super::request::{RequestError, Socket};
use super::{config, drain, ipvsadm, print, tables};
use crate::control::admin::view;
use crate::control::config::Machine;

/// `shunt diff` and its like.
#[derive(Debug, Subcommand)]
pub enum Change {
    /// Read the configuration file again, as SIGHUP does, and show what changed
    Reload,
    /// Give a backend no new connections, beside the file and over reloads
    Drain(drain::Drain),
    /// Give a backend the file's weight again
    Undrain(drain::Backend),
    /// Give a backend a weight, beside the file and over reloads
    Weight(drain::Weight),
    /// Show how what runs differs from the file, as it was read and as it is, or what a reload of FILE would
    /// change: exit code 0 nothing, 1 something, 2 the file cannot be used, or no daemon answers
    Diff {
        /// Another file than the daemon's
        file: Option<PathBuf>,
    },
    /// Write what runs to the daemon's file
    Save {
        /// Even if the file has changed since it was read
        #[arg(long)]
        force: bool,
    },
    /// Say whether a file can be used, on this machine: exit code 0, or 2 and why not
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print the JSON Schema of the file, for editors; asks no daemon
    Schema,
    /// Take a line of ipvsadm's, print what it prints and exit as it exits
    #[command(disable_help_flag = true)]
    Ipvsadm {
        /// As ipvsadm(8) has them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        line: Vec<String>,
    },
}

impl Change {
    /// The exit code.
    pub(super) fn run(
        &self,
        socket: &Socket,
        json: bool,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> Result<u8, RequestError> {
        match self {
            Self::Reload => {
                let outcome: view::Reload = socket.reload()?;
                print(out, json, &outcome, tables::reload)?;
                Ok(u8::from(!outcome.result.success()))
            }
            Self::Drain(asked) => asked.run(socket, json, out),
            Self::Undrain(backend) => {
                drain::carry_out(&backend.undrain(), socket, json, out).map(|_| 0)
            }
            Self::Weight(asked) => drain::carry_out(&asked.hand(), socket, json, out).map(|_| 0),
            Self::Diff { file: None } => {
                let drift = drift(socket)?;
                print(out, json, &drift, tables::drift)?;
                match drift.on_disk.as_ref().and_then(|it| it.unusable.as_ref()) {
                    Some(why) => {
                        writeln!(err, "{why}").map_err(RequestError::Output)?;
                        Ok(config::BAD_INPUT)
                    }
                    None if tables::drift(&drift).is_empty() => Ok(0),
                    None => Ok(config::DIFFERENT),
                }
            }
            Self::Diff { file: Some(file) } => {
                let running: view::Running = socket.get("/config")?;
                let named = drift(socket)?.on_disk.unwrap_or_default().named;
                let machine = Machine::here().elsewhere();
                tell(&config::against(&running, &named, file, &machine, json), out, err)
            }
            Self::Save { force } => {
                let saved: view::Saved = socket.post_with("/save", &Forced { force: *force })?;
                print(out, json, &saved, tables::saved)?;
                Ok(0)
            }
            Self::Check { file } => tell(&config::check(file, &Machine::here(), json), out, err),
            Self::Schema => tell(&config::schema(), out, err),
            Self::Ipvsadm { line } => {
                let mut input = std::io::stdin().lock();
                let session = &mut ipvsadm::Session { socket, input: &mut input, out, err };
                let code = session.run(ipvsadm::Program::Itself, line.clone());
                code.map_err(RequestError::Output)
            }
        }
    }
}

/// How what runs differs from the file, as it was read and as it is.
fn drift(socket: &Socket) -> Result<view::Drift, RequestError> {
    socket.get_with("/drift", &FromDisk { on_disk: true })
}

#[derive(serde::Serialize)]
struct FromDisk {
    on_disk: bool,
}

#[derive(serde::Serialize)]
struct Forced {
    force: bool,
}

fn tell(
    outcome: &config::Outcome,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<u8, RequestError> {
    let told = out.write_all(outcome.out.as_bytes()).and_then(|()| out.flush());
    told.and_then(|()| err.write_all(outcome.err.as_bytes())).map_err(RequestError::Output)?;
    Ok(outcome.code)
}
