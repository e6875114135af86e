//! Rules of `ipvsadm`: a save file (`ipvsadm -S -n`), or a script of such lines, to virtual services.
//!
//! The lines are read as [`crate::cli::ipvsadm`] reads them, and carried out in their order on a table that is empty at
//! first, so that edits, deletions and `-C` mean what they mean in IPVS. A line that is none of ipvsadm's is told and
//! passed over, as `ipvsadm-restore` would: it has no transactions either.

use std::path::Path;
use std::sync::Arc;

use super::health::Policy;
use super::lvs::{Real, Said, Virtual};
use super::note::{Notes, Place};
use super::{ImportError, Imported};
use crate::cli::ipvsadm::grammar;
use crate::cli::ipvsadm::messages::Refusal;
use crate::cli::ipvsadm::request::{Key, Request, Server, Service};
use crate::dataplane::snapshot::Protocol;

/// Largest file read.
const FILE_MAX: u64 = 64 << 20;

/// Reads rules.
pub(super) fn import(path: &Path, notes: &mut Notes) -> Result<Imported, ImportError> {
    let text = super::input::read(path, FILE_MAX)?;
    let file: Arc<str> = path.display().to_string().into();
    let mut table = Table { rules: 0, services: Vec::new(), timeouts: Vec::new(), notes };
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            table.line(&Place::new(&file, at + 1), line);
        }
    }
    if table.rules == 0 {
        let expected = "no rule of ipvsadm's is in it (-A …, -a …); for a keepalived.conf there is \
                        `shunt import keepalived`";
        return Err(ImportError::Dialect { path: path.to_owned(), expected });
    }
    let virtuals = table.services.into_iter().map(|(_, service)| service).collect();
    Ok(Imported { virtuals, timeouts: table.timeouts })
}

/// What the lines so far have made.
struct Table<'a> {
    /// Lines that were understood.
    rules: usize,
    services: Vec<(Key, Virtual)>,
    timeouts: Vec<(&'static str, u32, Place)>,
    notes: &'a mut Notes,
}

impl Table<'_> {
    /// The program's name may stand in front.
    fn line(&mut self, place: &Place, line: &str) {
        let is_program = |word: &str| word == "ipvsadm" || word.ends_with("/ipvsadm");
        let mut words = line.split_whitespace().map(str::to_owned).peekable();
        words.next_if(|word| is_program(word));
        match grammar::foreign(words) {
            Ok(request) => {
                self.rules += 1;
                self.request(place, line, request);
            }
            Err(refusal) => self.refused(place, line, &refusal),
        }
    }

    fn refused(&mut self, place: &Place, line: &str, refusal: &Refusal) {
        match refusal {
            Refusal::NoCommand => {
                self.notes.lost(place, line, "it begins with no command of ipvsadm's", "");
            }
            Refusal::Illegal("virtual server address[:port]" | "real server address[:port]") => {
                let mend = "write it in numbers, as `ipvsadm -S -n` does: no name is looked up";
                self.notes.lost(place, line, &refusal.to_string(), mend);
            }
            _ => self.notes.lost(place, line, &refusal.to_string(), ""),
        }
    }

    fn request(&mut self, place: &Place, line: &str, request: Request) {
        match request {
            Request::Clear => self.services.clear(),
            Request::Set { tcp_s, tcp_fin_s, udp_s } => self.set(place, [tcp_s, tcp_fin_s, udp_s]),
            Request::StartDaemon => {
                let why = "connections are not synchronised between boxes";
                let mend =
                    "use the scheduler `mh` and `sloppy` where connections shall outlive a box";
                self.notes.lost(place, line, why, mend);
            }
            Request::AddService(service) => self.add(place, line, service),
            Request::EditService(service) => self.edit(place, line, service),
            Request::DeleteService(key) => self.services.retain(|(other, _)| *other != key),
            Request::AddServer(key, server) => {
                let real = real(place, line, &server);
                self.of(key, place, line, |service| service.reals.push(real));
            }
            Request::EditServer(key, server) => self.edit_server(key, place, line, &server),
            Request::DeleteServer(key, server) => {
                self.of(key, place, line, |service| {
                    service
                        .reals
                        .retain(|it| (it.address, it.port) != (server.ip(), server.port()));
                });
            }
            Request::AddLocal(key, address) => {
                self.of(key, place, line, |service| service.local_addresses.push(address));
            }
            Request::DeleteLocal(key, address) => {
                self.of(key, place, line, |service| {
                    service.local_addresses.retain(|it| *it != address);
                });
            }
            Request::Help
            | Request::Version
            | Request::Restore
            | Request::Save { .. }
            | Request::List(_)
            | Request::Zero(_)
            | Request::StopDaemon
            | Request::ListLocals(_) => self.notes.remark(place, line, "it changes no service"),
        }
    }

    fn add(&mut self, place: &Place, line: &str, service: Service) {
        let key = service.key;
        match self.find(key) {
            None => {
                let new = self.virtual_of(place, line, service);
                self.services.push((key, new));
            }
            Some(_) => self.notes.lost(place, line, "the service is there already", ""),
        }
    }

    /// What is not said goes back to its default; the servers stay.
    fn edit(&mut self, place: &Place, line: &str, service: Service) {
        let key = service.key;
        let new = self.virtual_of(place, line, service);
        self.of(key, place, line, |old| {
            let (reals, locals) =
                (std::mem::take(&mut old.reals), std::mem::take(&mut old.local_addresses));
            *old = Virtual { reals, local_addresses: locals, ..new };
        });
    }

    fn edit_server(&mut self, key: Key, place: &Place, line: &str, server: &Server) {
        let new = real(place, line, server);
        let mut is_there = true;
        self.of(key, place, line, |service| {
            let same = |old: &&mut Real| (old.address, old.port) == (new.address, new.port);
            match service.reals.iter_mut().find(same) {
                Some(old) => *old = new,
                None => is_there = false,
            }
        });
        if !is_there {
            self.notes.lost(place, line, "no line before it adds its real server", "");
        }
    }

    /// Changes a service that is there.
    fn of(&mut self, key: Key, place: &Place, line: &str, change: impl FnOnce(&mut Virtual)) {
        match self.find(key) {
            Some(service) => change(service),
            None => self.notes.lost(place, line, "no line before it adds its service", ""),
        }
    }

    /// 0 leaves one as it is.
    fn set(&mut self, place: &Place, seconds: [u32; 3]) {
        let keys = ["tcp_established_s", "tcp_fin_wait_s", "udp_s"];
        for (key, seconds) in keys.into_iter().zip(seconds).filter(|(_, seconds)| *seconds > 0) {
            self.timeouts.retain(|(other, ..)| *other != key);
            self.timeouts.push((key, seconds, place.clone()));
        }
    }

    fn find(&mut self, key: Key) -> Option<&mut Virtual> {
        self.services.iter_mut().find(|(other, _)| *other == key).map(|(_, service)| service)
    }

    fn virtual_of(&mut self, place: &Place, line: &str, service: Service) -> Virtual {
        if service.engine.is_some() {
            let why = "Shunt looks into no payload to tell clients apart";
            self.notes.lost(place, line, why, "clients are told by their address");
        }
        virtual_of(place, line, service)
    }
}

fn virtual_of(place: &Place, line: &str, service: Service) -> Virtual {
    let said = |value: String| Said { place: place.clone(), value };
    let (mut addresses, mut marks) = (Vec::new(), Vec::new());
    let protocol = match service.key {
        Key::Place { protocol, address } => {
            addresses.push(Said { place: place.clone(), value: address });
            protocol
        }
        Key::Mark { mark, .. } => {
            marks.push(Said { place: place.clone(), value: mark });
            Protocol::Tcp
        }
    };
    let flags = ["flag-1", "flag-2", "flag-3"].into_iter().zip(service.flags.0);
    let odd = service.has_odd_mask.then(|| "-M".to_owned());
    Virtual {
        place: place.clone(),
        origin: line.to_owned(),
        name: None,
        protocol,
        addresses,
        marks,
        scheduler: Some(said(service.scheduler)),
        flags: flags.filter(|(_, is_set)| *is_set).map(|(name, _)| said(name.to_owned())).collect(),
        one_packet: service.is_ops.then(|| place.clone()),
        persistence: service.persistent_s.map(|value| Said { place: place.clone(), value }),
        granularity: service.prefix.map(|bits| bits.to_string()).or(odd).map(said),
        local_addresses: Vec::new(),
        health: Policy::default(),
        reals: Vec::new(),
    }
}

fn real(place: &Place, line: &str, server: &Server) -> Real {
    Real {
        place: place.clone(),
        origin: line.to_owned(),
        address: server.address.ip(),
        port: server.address.port(),
        mode: server.forward,
        weight: server.weight,
        thresholds: (server.upper, server.lower),
        checks: Vec::new(),
        sorry: false,
    }
}
