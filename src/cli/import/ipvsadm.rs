//! Rules of `ipvsadm`: a save file (`ipvsadm -S -n`), or a script of such lines, to virtual services.
//!
//! The lines are carried out in their order on a table that is empty at first, so that edits, deletions and
//! `-C` mean what they mean in IPVS. A line that is none of ipvsadm's is told and passed over, as
//! `ipvsadm-restore` would: it has no transactions either.

use std::path::Path;
use std::sync::Arc;

use super::lvs::{Real, Said, Virtual};
use super::note::{Notes, Place};
use super::{ImportError, Imported};
use crate::dataplane::snapshot::Protocol;

mod rule;

use rule::{Key, Rule, Verb, read};

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
        let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let is_program = first == "ipvsadm" || first.ends_with("/ipvsadm");
        match read(if is_program { rest } else { line }) {
            Ok(rule) => {
                self.rules += 1;
                self.rule(place, line, rule);
            }
            Err(why) => self.notes.lost(place, line, &why, ""),
        }
    }

    fn rule(&mut self, place: &Place, line: &str, rule: Rule) {
        match (rule.verb, rule.key.clone()) {
            (Verb::Clear, _) => self.services.clear(),
            (Verb::Set, _) => self.set(place, rule.timeouts),
            (Verb::StartDaemon, _) => {
                let why = "connections are not synchronised between boxes";
                let mend =
                    "use the scheduler `mh` and `sloppy` where connections shall outlive a box";
                self.notes.lost(place, line, why, mend);
            }
            (Verb::Other, _) | (_, None) => {
                self.notes.remark(place, line, "it changes no service");
            }
            (Verb::AddService | Verb::EditService, Some(key)) => {
                self.service(place, line, rule, key);
            }
            (Verb::DeleteService, Some(key)) => self.services.retain(|(other, _)| *other != key),
            (_, Some(key)) => match self.find(&key) {
                Some(service) => edit(service, place, line, &rule),
                None => self.notes.lost(place, line, "no line before it adds its service", ""),
            },
        }
    }

    fn service(&mut self, place: &Place, line: &str, rule: Rule, key: Key) {
        if rule.engine.is_some() {
            let why = "Shunt looks into no payload to tell clients apart";
            self.notes.lost(place, line, why, "clients are told by their address");
        }
        let adds = rule.verb == Verb::AddService;
        let new = virtual_of(place, line, rule, &key);
        match (self.find(&key), adds) {
            (None, true) => self.services.push((key, new)),
            // What is not said goes back to its default; the servers stay.
            (Some(old), false) => {
                let (reals, locals) = (std::mem::take(&mut old.reals), old.local_addresses.clone());
                *old = Virtual { reals, local_addresses: locals, ..new };
            }
            (Some(_), true) => self.notes.lost(place, line, "the service is there already", ""),
            (None, false) => {
                self.notes.lost(place, line, "no line before it adds its service", "");
            }
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

    fn find(&mut self, key: &Key) -> Option<&mut Virtual> {
        self.services.iter_mut().find(|(other, _)| other == key).map(|(_, service)| service)
    }
}

/// Servers and local addresses of a service.
fn edit(service: &mut Virtual, place: &Place, line: &str, rule: &Rule) {
    match (rule.verb, rule.server, rule.local) {
        (Verb::AddLocal, _, Some(address)) => service.local_addresses.push(address),
        (Verb::DeleteLocal, _, Some(address)) => {
            service.local_addresses.retain(|it| *it != address);
        }
        (Verb::DeleteServer, Some(server), _) => {
            service.reals.retain(|it| (it.address, it.port) != (server.ip(), server.port()));
        }
        (_, Some(server), _) => {
            let real = Real {
                place: place.clone(),
                origin: line.to_owned(),
                address: server.ip(),
                port: server.port(),
                mode: rule.mode,
                weight: rule.weight,
                thresholds: rule.thresholds,
            };
            let same = |old: &&mut Real| (old.address, old.port) == (real.address, real.port);
            let old = service.reals.iter_mut().find(same);
            match old.filter(|_| rule.verb == Verb::EditServer) {
                Some(old) => *old = real,
                None => service.reals.push(real),
            }
        }
        _ => {}
    }
}

fn virtual_of(place: &Place, line: &str, rule: Rule, key: &Key) -> Virtual {
    let said = |value: String| Said { place: place.clone(), value };
    let (mut addresses, mut marks) = (Vec::new(), Vec::new());
    let protocol = match *key {
        Key::Place(protocol, address) => {
            addresses.push(Said { place: place.clone(), value: address });
            protocol
        }
        Key::Mark(mark, _) => {
            marks.push(Said { place: place.clone(), value: mark });
            Protocol::Tcp
        }
    };
    Virtual {
        place: place.clone(),
        origin: line.to_owned(),
        name: None,
        protocol,
        addresses,
        marks,
        scheduler: rule.scheduler.map(said),
        flags: rule.flags.into_iter().map(said).collect(),
        one_packet: rule.one_packet.then(|| place.clone()),
        persistence: rule.persistent_s.map(|value| Said { place: place.clone(), value }),
        granularity: rule.mask.map(said),
        local_addresses: Vec::new(),
        reals: Vec::new(),
    }
}
