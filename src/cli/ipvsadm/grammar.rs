//! From words to a [`Request`]: what each value must be, what goes with what, and what is said otherwise.
//!
//! ```text
//! words ─► one by one: is the value one? (the first that is not ends it)
//!       ─► all together: anything left over, flags, missing, out of place
//!       ─► the command: ports, families, tunnels ─► Request
//! ```
//!
//! The order of the questions is `ipvsadm`'s, as a line with two mistakes is told of one. A test puts both to the
//! same lines.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::messages::Refusal;
use super::names::{dotted, number, read, read_numbers};
use super::options::{Opt, Verb, Word};
use super::request::{Key, List, Request, SchedFlags, Server, Service, What};
use super::tunnels::Tunnel;
use super::words::{Said, Words};
use crate::dataplane::snapshot::{Mode, Protocol};

/// Longest persistence and timeouts: 31 days.
const SECONDS_MAX: u32 = 31 * 86_400;
/// Persistence if `-p` has no number.
const PERSISTENT_S: u32 = 360;
/// As `ipvsadm`'s.
const NUMBER_MAX: u32 = i32::MAX as u32;
/// The scheduler if none is said.
const SCHEDULER: &str = "wlc";

/// Reads an address, with a port of that protocol.
type Reader = fn(&str, Protocol) -> Option<SocketAddr>;

/// Reads a line, without the program's name.
pub fn request(line: impl IntoIterator<Item = String>) -> Result<Request, Refusal> {
    request_by(read, line)
}

/// Reads a line that was written on another machine: in numbers, for its names are not looked up here.
pub fn foreign(line: impl IntoIterator<Item = String>) -> Result<Request, Refusal> {
    request_by(|text, _| read_numbers(text), line)
}

fn request_by(read: Reader, line: impl IntoIterator<Item = String>) -> Result<Request, Refusal> {
    let mut words = Words::new(line);
    let mut draft = match words.word() {
        Ok(Some(Said { word: Word::Verb(verb), value, .. })) => Draft::new(read, verb, value),
        Ok(None) if words.left_over.is_empty() => Draft::new(read, Verb::List, None),
        Ok(_) | Err(_) => return Err(Refusal::NoCommand),
    };
    match draft.verb {
        Verb::Help => return Ok(Request::Help),
        Verb::Version => return Ok(Request::Version),
        Verb::StartDaemon => draft.role("start-daemon parameter")?,
        Verb::StopDaemon => draft.role("start_daemon")?,
        _ => {}
    }
    while let Some(said) = words.word()? {
        draft.take(said)?;
    }
    draft.request(words.left_over)
}

/// What has been said so far.
struct Draft {
    read: Reader,
    verb: Verb,
    role: Option<String>,
    /// Each option once; with its value as written, or an empty one.
    said: BTreeMap<Opt, String>,
    key: Option<Key>,
    server: Option<(IpAddr, u16)>,
    forward: Option<Word>,
    local: Option<IpAddr>,
}

impl Draft {
    fn new(read: Reader, verb: Verb, role: Option<String>) -> Self {
        let (said, key, server, forward, local) = (BTreeMap::new(), None, None, None, None);
        Self { read, verb, role, said, key, server, forward, local }
    }

    fn role(&self, what: &'static str) -> Result<(), Refusal> {
        match self.role.as_deref() {
            Some("master" | "backup") => Ok(()),
            _ => Err(Refusal::Illegal(what)),
        }
    }

    fn take(&mut self, Said { word, value, text }: Said) -> Result<(), Refusal> {
        if word == Word::Opt(Opt::Persistent) && value.is_none() {
            return self.once(Opt::Persistent, PERSISTENT_S.to_string());
        }
        let value = value.unwrap_or_default();
        match word {
            Word::Verb(_) => return Err(Refusal::SecondCommand(text)),
            Word::Sort | Word::Interface => {}
            Word::Tcp => self.place(Protocol::Tcp, &value)?,
            Word::Udp => self.place(Protocol::Udp, &value)?,
            Word::Sctp => self.place(Protocol::Sctp, &value)?,
            Word::Mark => self.mark(&value)?,
            Word::Ipv6 => self.six()?,
            Word::Route | Word::Tunnel | Word::Masq | Word::Fullnat => {
                self.once(Opt::Forward, String::new())?;
                self.forward = Some(word);
            }
            Word::Opt(Opt::Server) => {
                self.once(Opt::Server, String::new())?;
                let address = (self.read)(&value, self.protocol());
                let address = address.ok_or(Refusal::Illegal("real server address[:port]"))?;
                self.server = Some((address.ip(), address.port()));
            }
            Word::Opt(Opt::Local) => {
                self.once(Opt::Local, String::new())?;
                let address = value.parse().map_err(|_| Refusal::Illegal("local address"))?;
                self.local = Some(address);
            }
            Word::Opt(opt) => {
                self.once(opt, value.clone())?;
                self.judge(opt, &value)?;
            }
        }
        Ok(())
    }

    fn once(&mut self, opt: Opt, value: String) -> Result<(), Refusal> {
        match self.said.insert(opt, value) {
            None => Ok(()),
            Some(_) => Err(Refusal::Twice(opt.name())),
        }
    }

    fn protocol(&self) -> Protocol {
        match self.key {
            Some(Key::Place { protocol, .. }) => protocol,
            _ => Protocol::Tcp,
        }
    }

    fn place(&mut self, protocol: Protocol, value: &str) -> Result<(), Refusal> {
        self.once(Opt::Service, String::new())?;
        let address = (self.read)(value, protocol);
        let address = address.ok_or(Refusal::Illegal("virtual server address[:port]"))?;
        self.key = Some(Key::Place { protocol, address });
        Ok(())
    }

    fn mark(&mut self, value: &str) -> Result<(), Refusal> {
        self.once(Opt::Service, String::new())?;
        let mark = number(value, 1, u32::MAX).ok_or_else(|| Refusal::Invalid {
            what: "fwmark value",
            value: value.to_owned(),
            is_specified: true,
        })?;
        self.key = Some(Key::Mark { mark, is_ipv6: false });
        Ok(())
    }

    fn six(&mut self) -> Result<(), Refusal> {
        match &mut self.key {
            Some(Key::Mark { is_ipv6, .. }) => *is_ipv6 = true,
            _ => return Err(Refusal::SixBeforeMark),
        }
        Ok(())
    }

    /// Is the value one?
    fn judge(&self, opt: Opt, value: &str) -> Result<(), Refusal> {
        let within = |least, most| number(value, least, most).is_some();
        let (fits, what) = match opt {
            Opt::Weight => (within(0, NUMBER_MAX), "weight"),
            Opt::Upper => (within(0, NUMBER_MAX), "u_threshold"),
            Opt::Lower => (within(0, NUMBER_MAX), "l_threshold"),
            Opt::TunType => (Tunnel::named(value).is_some(), "tunnel type"),
            Opt::TunPort => (within(1, 65_535), "tunnel port"),
            Opt::SyncId => (within(0, 255), "syncid"),
            Opt::SyncMaxlen => (within(1, 65_535), "sync-maxlen"),
            Opt::McastPort => (within(1, 65_535), "mcast-port"),
            Opt::McastTtl => (within(1, 255), "mcast-ttl"),
            Opt::Netmask if self.is_ipv6() => (within(1, 128), "ipv6 netmask"),
            Opt::Netmask => (dotted(value).is_some(), "virtual server persistent mask"),
            Opt::Persistent => return seconds(value, 1).map(drop),
            Opt::McastGroup => return group(value),
            _ => return Ok(()),
        };
        if fits { Ok(()) } else { Err(Refusal::Illegal(what)) }
    }

    fn is_ipv6(&self) -> bool {
        self.key.is_some_and(|key| key.is_ipv6())
    }

    fn has(&self, opt: Opt) -> bool {
        self.said.contains_key(&opt)
    }

    fn number(&self, opt: Opt, default: u32) -> u32 {
        self.said.get(&opt).and_then(|text| number(text, 0, u32::MAX)).unwrap_or(default)
    }

    fn request(self, mut left_over: Vec<String>) -> Result<Request, Refusal> {
        let timeouts = match self.verb {
            Verb::Set => Some(timeouts(&mut left_over)?),
            _ => None,
        };
        if let Some(word) = left_over.into_iter().next() {
            return Err(Refusal::LeftOver(word));
        }
        let flags = self.flags()?;
        self.in_place()?;
        Ok(match (self.verb, self.key) {
            (Verb::AddService, Some(key)) => Request::AddService(self.service(key, flags)?),
            (Verb::EditService, Some(key)) => Request::EditService(self.service(key, flags)?),
            (Verb::DeleteService, Some(key)) => Request::DeleteService(key),
            (Verb::AddServer, Some(key)) => Request::AddServer(key, self.server(key)?),
            (Verb::EditServer, Some(key)) => Request::EditServer(key, self.server(key)?),
            (Verb::DeleteServer, Some(key)) => {
                Request::DeleteServer(key, self.server(key)?.address)
            }
            (Verb::AddLocal, Some(key)) => Request::AddLocal(key, self.local(key)?),
            (Verb::DeleteLocal, Some(key)) => Request::DeleteLocal(key, self.local(key)?),
            (Verb::ListLocals, key) => Request::ListLocals(key),
            (Verb::Zero, key) => Request::Zero(key),
            (Verb::List, _) => Request::List(self.list()?),
            (Verb::Clear, _) => Request::Clear,
            (Verb::Restore, _) => Request::Restore,
            (Verb::Save, _) => Request::Save { numeric: self.has(Opt::Numeric) },
            (Verb::StartDaemon, _) => Request::StartDaemon,
            (Verb::StopDaemon, _) => Request::StopDaemon,
            (Verb::Version, _) => Request::Version,
            (Verb::Set, _) => {
                let [tcp_s, tcp_fin_s, udp_s] = timeouts.unwrap_or_default();
                Request::Set { tcp_s, tcp_fin_s, udp_s }
            }
            _ => Request::Help,
        })
    }

    /// Is anything missing, out of place or one too many? In the order of the options.
    fn in_place(&self) -> Result<(), Refusal> {
        let command = self.verb.name();
        let mut alone = None;
        for opt in Opt::all() {
            let (is_said, option) = (self.has(opt), opt.name());
            let is_required = self.verb.required().contains(&opt);
            if !is_said && is_required {
                return Err(Refusal::Missing { option, command });
            }
            if is_said && !is_required && !self.verb.allowed().contains(&opt) {
                return Err(Refusal::OutOfPlace { option, command });
            }
            let is_alone = is_said && self.verb.alone().contains(&opt);
            if let (true, Some(earlier)) = (is_alone, alone) {
                return Err(Refusal::Conflict { later: option, earlier });
            }
            alone = alone.or(is_alone.then_some(option));
        }
        Ok(())
    }

    fn scheduler(&self) -> &str {
        self.said.get(&Opt::Scheduler).map_or(SCHEDULER, String::as_str)
    }

    fn flags(&self) -> Result<SchedFlags, Refusal> {
        let mut flags = [false; 3];
        let text = self.said.get(&Opt::SchedFlags).map_or("", String::as_str);
        for name in text.split(',').filter(|name| !name.is_empty()) {
            let (place, of) = match name {
                "flag-1" => (0, ""),
                "flag-2" => (1, ""),
                "flag-3" => (2, ""),
                "sh-fallback" => (0, "sh"),
                "sh-port" => (1, "sh"),
                "mh-fallback" => (0, "mh"),
                "mh-port" => (1, "mh"),
                _ => {
                    let (what, value) = ("scheduler flag", name.to_owned());
                    return Err(Refusal::Invalid { what, value, is_specified: false });
                }
            };
            if !of.is_empty() && of != self.scheduler() {
                return Err(Refusal::ForeignFlag(name.to_owned()));
            }
            flags[place] = true;
        }
        Ok(SchedFlags(flags))
    }

    fn service(&self, key: Key, flags: SchedFlags) -> Result<Service, Refusal> {
        let persistent_s = self.said.get(&Opt::Persistent).map(|text| seconds(text, 1));
        let persistent_s = persistent_s.transpose()?;
        let is_ops = self.has(Opt::Ops);
        if let Key::Place { protocol, address } = key {
            if address.port() == 0 && persistent_s.is_none() {
                return Err(Refusal::ZeroPort);
            }
            if is_ops && protocol != Protocol::Udp {
                return Err(Refusal::OpsNotUdp);
            }
        }
        let prefix = self.said.get(&Opt::Netmask).map(|text| mask(text, key)).transpose()?;
        Ok(Service {
            key,
            scheduler: self.scheduler().to_owned(),
            persistent_s,
            prefix: prefix.flatten(),
            has_odd_mask: prefix == Some(None),
            is_ops,
            engine: self.said.get(&Opt::Engine).cloned(),
            flags,
        })
    }

    fn server(&self, key: Key) -> Result<Server, Refusal> {
        let Some((address, port)) = self.server else {
            let (option, command) = (Opt::Server.name(), self.verb.name());
            return Err(Refusal::Missing { option, command });
        };
        let word = self.forward.unwrap_or(Word::Route);
        let crosses = matches!(word, Word::Tunnel | Word::Fullnat);
        if !crosses && self.verb != Verb::DeleteServer && address.is_ipv6() != key.is_ipv6() {
            return Err(Refusal::OtherFamily);
        }
        let kind = self.said.get(&Opt::TunType).map_or("ipip", String::as_str);
        let encapsulation = Tunnel::named(kind)
            .unwrap_or(Tunnel::Ipip)
            .read(&|opt| self.said.get(&opt).map(String::as_str));
        let is_tunnel = word == Word::Tunnel;
        if !is_tunnel && Tunnel::OPTIONS.iter().any(|opt| self.has(*opt)) {
            return Err(Refusal::NotATunnel);
        }
        // Without a translation packets keep the port they came to.
        let keeps = self.verb != Verb::DeleteServer && matches!(word, Word::Route | Word::Tunnel);
        let port = match key {
            Key::Place { address, .. } if port == 0 || keeps => address.port(),
            _ => port,
        };
        Ok(Server {
            address: (address, port).into(),
            forward: match word {
                Word::Tunnel => Mode::Tunnel(encapsulation?),
                Word::Masq => Mode::Nat,
                Word::Fullnat => Mode::Fullnat,
                _ => Mode::Dr,
            },
            weight: self.number(Opt::Weight, 1),
            upper: self.number(Opt::Upper, 0),
            lower: self.number(Opt::Lower, 0),
        })
    }

    fn local(&self, _: Key) -> Result<IpAddr, Refusal> {
        let (option, command) = (Opt::Local.name(), self.verb.name());
        self.local.ok_or(Refusal::Missing { option, command })
    }

    fn list(&self) -> Result<List, Refusal> {
        let figures = [Opt::Stats, Opt::Rate, Opt::Thresholds];
        let has_figures = figures.iter().any(|opt| self.has(*opt));
        let engines = self.has(Opt::PersistentConn);
        let is_apart = self.has(Opt::Timeout) || self.has(Opt::Daemon);
        if (self.has(Opt::Connection) && has_figures) || (is_apart && (has_figures || engines)) {
            return Err(Refusal::Conflicts);
        }
        Ok(List {
            key: self.key,
            what: self.what(engines),
            numeric: self.has(Opt::Numeric),
            exact: self.has(Opt::Exact),
            unsorted: self.has(Opt::NoSort),
        })
    }

    fn what(&self, engines: bool) -> What {
        let table = [
            (Opt::Connection, What::Connections { engines }),
            (Opt::Timeout, What::Timeouts),
            (Opt::Daemon, What::Daemon),
            (Opt::Stats, What::Stats),
            (Opt::Rate, What::Rate),
            (Opt::Thresholds, What::Thresholds),
            (Opt::PersistentConn, What::PersistentConn),
            (Opt::TunInfo, What::TunInfo),
        ];
        let said = table.into_iter().find(|(opt, _)| self.has(*opt));
        said.map_or(What::Plain, |(_, what)| what)
    }
}

/// A number of seconds.
fn seconds(text: &str, least: u32) -> Result<u32, Refusal> {
    number(text, least, SECONDS_MAX).ok_or_else(|| Refusal::Invalid {
        what: "timeout value",
        value: text.to_owned(),
        is_specified: true,
    })
}

/// The three of `--set`.
fn timeouts(left_over: &mut Vec<String>) -> Result<[u32; 3], Refusal> {
    if left_over.len() < 3 {
        return Err(Refusal::ThreeTimeouts);
    }
    let mut values = [0; 3];
    for (value, text) in values.iter_mut().zip(left_over.drain(..3)) {
        *value = seconds(&text, 0)?;
    }
    Ok(values)
}

/// A multicast group, as the sync daemon would want one.
fn group(text: &str) -> Result<(), Refusal> {
    let what = if text.contains(':') { "IPv6 mcast-group" } else { "IPv4 mcast-group" };
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_multicast() => Ok(()),
        _ => Err(Refusal::Invalid { what, value: text.to_owned(), is_specified: false }),
    }
}

/// How many first bits a mask has; `None` if ones follow zeros.
fn mask(text: &str, key: Key) -> Result<Option<u8>, Refusal> {
    if key.is_ipv6() {
        // One that came before its service was judged as a mask of IPv4: it is no mask here.
        return Ok(number(text, 1, 128).and_then(|length| u8::try_from(length).ok()));
    }
    let mask = dotted(text).ok_or(Refusal::Illegal("virtual server persistent mask"))?;
    let bits = u32::from(mask);
    let length = bits.leading_ones();
    let is_plain = length == bits.count_ones();
    Ok(is_plain.then_some(length).and_then(|length| u8::try_from(length).ok()))
}
