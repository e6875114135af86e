//! A request carried out: asked of the daemon, and told in `ipvsadm`'s words.
//!
//! What changes the configuration is an edit. Those of `-R` go to the daemon many at a time, which is one
//! publication instead of thousands; if it refuses them together, half and half again, until the line is
//! found that it does not take. All others are made, as `ipvsadm -R` would.

use std::io::{BufRead, Write};

use super::messages::Refusal;
use super::order::sort;
use super::request::{Key, List, Request, What};
use super::seen::Weights;
use super::table::Service;
use super::{exchange, grammar, list, save, seen};
use crate::cli::{RequestError, Socket, pages};
use crate::control::admin::answers::dump::Templates;
use crate::control::admin::view;
use crate::control::edit::{EDITS_MAX, Edit};
use crate::dataplane::snapshot::{Ports, ServiceAddress};

/// Which program it is called as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `ipvsadm`
    Itself,
    /// `ipvsadm-save`
    Save,
    /// `ipvsadm-restore`
    Restore,
}

impl Program {
    /// By the name it was started with, if it is one of these.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ipvsadm" => Some(Self::Itself),
            "ipvsadm-save" => Some(Self::Save),
            "ipvsadm-restore" => Some(Self::Restore),
            _ => None,
        }
    }
}

/// Where a line is carried out.
pub struct Session<'a> {
    /// The daemon.
    pub socket: &'a Socket,
    /// What `-R` reads.
    pub input: &'a mut dyn BufRead,
    /// What is listed.
    pub out: &'a mut dyn Write,
    /// What is wrong.
    pub err: &'a mut dyn Write,
}

/// An edit that waits for others, and the request it is of.
type Waiting = (Request, Edit);

impl Session<'_> {
    /// Carries out a line, without the program's name. The exit code.
    pub fn run(&mut self, program: Program, line: Vec<String>) -> std::io::Result<u8> {
        match program {
            Program::Itself => match grammar::request(line) {
                Ok(Request::Restore) => self.restore(Vec::new()),
                Ok(request) => self.carry_out(&request),
                Err(refusal) => self.refuse(&refusal),
            },
            Program::Save => {
                let numeric = line.iter().any(|word| word == "-n");
                self.carry_out(&Request::Save { numeric })
            }
            Program::Restore => self.restore(vec![(Request::Clear, Edit::DeleteServices)]),
        }
    }

    fn refuse(&mut self, refusal: &Refusal) -> std::io::Result<u8> {
        writeln!(self.err, "{refusal}")?;
        Ok(refusal.code())
    }

    /// `-R`: the exit code of the last line, or of one that is none.
    fn restore(&mut self, first: Vec<Waiting>) -> std::io::Result<u8> {
        let (mut waiting, mut code) = (first, 0);
        let mut line = String::new();
        while self.input.read_line(&mut line)? > 0 {
            let words = words(&line);
            line.clear();
            if words.is_empty() {
                continue;
            }
            match grammar::request(words) {
                Err(refusal) => {
                    self.make(&waiting)?;
                    return self.refuse(&refusal);
                }
                Ok(Request::Restore) => return self.refuse(&Refusal::NoCommand),
                Ok(request) => {
                    if let Ok(Some(edit)) = exchange::edit(&request) {
                        waiting.push((request, edit));
                    } else {
                        self.make(&waiting)?;
                        waiting.clear();
                        code = self.carry_out(&request)?;
                        continue;
                    }
                }
            }
            code = 0;
            if waiting.len() == EDITS_MAX {
                code = self.make(&waiting)?;
                waiting.clear();
            }
        }
        if waiting.is_empty() { Ok(code) } else { self.make(&waiting) }
    }

    /// Makes edits, all but those that are refused. The exit code of the last.
    fn make(&mut self, edits: &[Waiting]) -> std::io::Result<u8> {
        if edits.is_empty() {
            return Ok(0);
        }
        let all: Vec<Edit> = edits.iter().map(|(_, edit)| edit.clone()).collect();
        let Err(error) = self.socket.edit(all, None) else { return Ok(0) };
        let is_about_them = matches!(error, RequestError::Edit { .. });
        match edits {
            [(request, _)] => self.refuse(&exchange::refusal(request, error)),
            [(request, _), ..] if !is_about_them => self.refuse(&exchange::refusal(request, error)),
            _ => {
                let (first, rest) = edits.split_at(edits.len() / 2);
                self.make(first)?;
                self.make(rest)
            }
        }
    }

    fn carry_out(&mut self, request: &Request) -> std::io::Result<u8> {
        let done = match request {
            Request::Help => Ok(super::HELP.to_owned()),
            Request::Version => Ok(super::version()),
            Request::List(asked) => self.list(asked),
            Request::Save { numeric } => self.save(*numeric),
            Request::ListLocals(key) => self.locals(*key),
            Request::Zero(key) => self.zero(*key),
            Request::StartDaemon => Err(Refusal::Unsupported(
                "there is no sync daemon: Shunt does not share connections between boxes",
            )),
            Request::StopDaemon => Err(Refusal::NoDaemon),
            _ => match exchange::edit(request) {
                Ok(Some(edit)) => return self.make(&[(request.clone(), edit)]),
                Ok(None) => Ok(String::new()),
                Err(Refusal::NoService) if exchange::is_about_servers(request) => {
                    Err(Refusal::NotDefined)
                }
                Err(refusal) => Err(refusal),
            },
        };
        match done {
            Ok(text) => {
                self.out.write_all(text.as_bytes())?;
                self.out.flush()?;
                Ok(0)
            }
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn services(&self, weights: Weights) -> Result<Vec<Service>, Refusal> {
        self.services_with(weights, &[])
    }

    /// With clients that persistence sends to backends, of these.
    fn services_with(
        &self,
        weights: Weights,
        templates: &[view::Connection],
    ) -> Result<Vec<Service>, Refusal> {
        let services: view::Services = self.socket.get("/services").map_err(unreachable)?;
        Ok(seen::services(&services, weights, templates))
    }

    /// Which clients persistence sends where, if that is what is asked for.
    fn templates(&self, asked: &List) -> Result<Vec<view::Connection>, Refusal> {
        if asked.what != What::PersistentConn {
            return Ok(Vec::new());
        }
        let all = pages(self.socket, None, Some(Templates::Only)).map_err(unreachable)?;
        Ok(all.connections)
    }

    fn list(&self, asked: &List) -> Result<String, Refusal> {
        match asked.what {
            What::Connections { engines } => {
                let all = pages(self.socket, None, Some(Templates::Too)).map_err(unreachable)?;
                return Ok(list::connections(&all.connections, asked, engines));
            }
            What::Timeouts => {
                let running: view::Running = self.socket.get("/config").map_err(unreachable)?;
                let seconds = |key| running.timeouts.get(key).copied().unwrap_or_default();
                let (tcp, fin) = (seconds("tcp_established_s"), seconds("tcp_fin_wait_s"));
                return Ok(list::timeouts(tcp, fin, seconds("udp_s")));
            }
            // None is ever running.
            What::Daemon => return Ok(String::new()),
            _ => {}
        }
        let services = self.services_with(Weights::InUse, &self.templates(asked)?)?;
        let mut services = of(services, asked.key).ok_or(Refusal::NothingToList)?;
        if !asked.unsorted {
            services = sort(services);
        }
        let mut text = String::new();
        if asked.key.is_none() {
            let status: view::Status = self.socket.get("/status").map_err(unreachable)?;
            text += &list::version(status.facts.table_capacity);
        }
        Ok(text + &list::services(&services, asked))
    }

    fn save(&self, numeric: bool) -> Result<String, Refusal> {
        Ok(save::lines(&sort(self.services(Weights::Configured)?), numeric))
    }

    fn locals(&self, key: Option<Key>) -> Result<String, Refusal> {
        let services = of(self.services(Weights::InUse)?, key).ok_or(Refusal::NothingToList)?;
        Ok(list::locals(&sort(services)))
    }

    fn zero(&self, key: Option<Key>) -> Result<String, Refusal> {
        let which = key.map(exchange::which).transpose()?;
        match self.socket.zero(which) {
            Ok(_) => Ok(String::new()),
            Err(error) => Err(exchange::refusal(&Request::Zero(key), error)),
        }
    }
}

/// The words of a line of `-R`; a `#` at its beginning makes it a comment, and `ipvsadm` need not be there.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    if line.starts_with('#') {
        words.clear();
    }
    if words.first().is_some_and(|word| word == "ipvsadm") {
        words.remove(0);
    }
    words
}

/// All of them, or the one that is meant.
fn of(services: Vec<Service>, key: Option<Key>) -> Option<Vec<Service>> {
    let Some(key) = key else { return Some(services) };
    let Key::Place { protocol, address } = key else { return None };
    let ports = if address.port() == 0 { Ports::ALL } else { Ports::one(address.port()) };
    let wanted = ServiceAddress { vip: address.ip(), ports };
    let is_wanted = |it: &Service| it.protocol == protocol && it.address == wanted;
    let found: Vec<_> = services.into_iter().filter(is_wanted).collect();
    (!found.is_empty()).then_some(found)
}

fn unreachable(error: RequestError) -> Refusal {
    match error {
        RequestError::NotAllowed(_) => Refusal::NotAllowed(error.to_string()),
        other => Refusal::Unreachable(other.to_string()),
    }
}
