//! One line of `ipvsadm`'s, as `-S` writes it and people write it: words, split at blanks, no quoting.
//!
//! ```text
//! rule   := -A|-E svc { -s NAME | -p [N] | -M MASK | --pe NAME | -o | -b FLAG,… }
//!         | -a|-e svc -r ADDR { -g|-i|-m|--fullnat | -w N | -x N | -y N | --tun-… }
//!         | -D svc | -d svc -r ADDR | -P|-Q svc -z ADDR | -C | --set T F U
//! svc    := -t|-u|--sctp-service ADDR | -f N [-6]
//! ```
//!
//! Long names, `-w3` and `--weight=3` are known too. Names of hosts and services are not looked up: what they
//! mean here and now is not what they mean there and then.

use std::net::{IpAddr, SocketAddr};

use crate::dataplane::snapshot::{Encapsulation, GueChecksum, Mode, Protocol};

/// Seconds, if `-p` has none.
const PERSISTENT_S: u32 = 360;

/// Which service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Where clients find it.
    Place(Protocol, SocketAddr),
    /// A mark, and whether it is one of IPv6.
    Mark(u32, bool),
}

/// What a line has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    AddService,
    EditService,
    DeleteService,
    AddServer,
    EditServer,
    DeleteServer,
    AddLocal,
    DeleteLocal,
    Clear,
    Set,
    /// Connections handed to another box.
    StartDaemon,
    /// Nothing that is in a table of services.
    Other,
}

/// A line, taken apart; what is not said has its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) verb: Verb,
    pub(super) key: Option<Key>,
    pub(super) server: Option<SocketAddr>,
    pub(super) local: Option<IpAddr>,
    pub(super) scheduler: Option<String>,
    pub(super) flags: Vec<String>,
    pub(super) persistent_s: Option<u32>,
    pub(super) mask: Option<String>,
    pub(super) engine: Option<String>,
    pub(super) one_packet: bool,
    pub(super) mode: Mode,
    pub(super) weight: u32,
    pub(super) thresholds: (u32, u32),
    /// Of `--set`; 0 for those that stay.
    pub(super) timeouts: [u32; 3],
    tunnel: Tunnel,
}

/// What is said of a tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tunnel {
    kind: Option<String>,
    port: u16,
    sums: bool,
    remote: bool,
}

/// Takes a line apart; or says which word is wrong, and how.
pub(super) fn read(line: &str) -> Result<Rule, String> {
    let mut words = Words::of(line);
    let first = words.next().ok_or("it is empty")?;
    let mut rule = Rule::new(verb(&first).ok_or_else(|| format!("`{first}` is no command"))?);
    if rule.verb == Verb::Set {
        for seconds in &mut rule.timeouts {
            *seconds = number(&words.value("--set")?)?;
        }
    }
    if rule.verb != Verb::Other && rule.verb != Verb::StartDaemon {
        while let Some(word) = words.next() {
            rule.take(&word, &mut words)?;
        }
    }
    rule.finish()
}

fn verb(word: &str) -> Option<Verb> {
    Some(match word {
        "-A" | "--add-service" => Verb::AddService,
        "-E" | "--edit-service" => Verb::EditService,
        "-D" | "--delete-service" => Verb::DeleteService,
        "-a" | "--add-server" => Verb::AddServer,
        "-e" | "--edit-server" => Verb::EditServer,
        "-d" | "--delete-server" => Verb::DeleteServer,
        "-P" | "--add-laddr" => Verb::AddLocal,
        "-Q" | "--del-laddr" => Verb::DeleteLocal,
        "-C" | "--clear" => Verb::Clear,
        "--set" => Verb::Set,
        "--start-daemon" => Verb::StartDaemon,
        "-L" | "-l" | "--list" | "-Z" | "--zero" | "-S" | "--save" | "--stop-daemon" | "-G" => {
            Verb::Other
        }
        _ => return None,
    })
}

impl Rule {
    fn new(verb: Verb) -> Self {
        Self {
            verb,
            key: None,
            server: None,
            local: None,
            scheduler: None,
            flags: Vec::new(),
            persistent_s: None,
            mask: None,
            engine: None,
            one_packet: false,
            mode: Mode::Dr,
            weight: 1,
            thresholds: (0, 0),
            timeouts: [0; 3],
            tunnel: Tunnel::default(),
        }
    }

    fn take(&mut self, word: &str, words: &mut Words) -> Result<(), String> {
        match word {
            "-t" | "--tcp-service" => self.place(Protocol::Tcp, &words.value(word)?)?,
            "-u" | "--udp-service" => self.place(Protocol::Udp, &words.value(word)?)?,
            "--sctp-service" => self.place(Protocol::Sctp, &words.value(word)?)?,
            "-f" | "--fwmark-service" => {
                self.key = Some(Key::Mark(number(&words.value(word)?)?, false));
            }
            "-6" | "--ipv6" => {
                if let Some(Key::Mark(_, is_ipv6)) = &mut self.key {
                    *is_ipv6 = true;
                }
            }
            "-r" | "--real-server" => self.server = Some(socket(&words.value(word)?)?),
            "-z" | "--local-address" => {
                let text = words.value(word)?;
                let address = text.parse().map_err(|_| format!("`{text}` is no address"))?;
                self.local = Some(address);
            }
            _ => self.take_of_service(word, words)?,
        }
        Ok(())
    }

    fn take_of_service(&mut self, word: &str, words: &mut Words) -> Result<(), String> {
        match word {
            "-s" | "--scheduler" => self.scheduler = Some(words.value(word)?),
            "-b" | "--sched-flags" => {
                self.flags = words.value(word)?.split(',').map(str::to_owned).collect();
            }
            "-p" | "--persistent" => {
                let seconds = words.optional().map(|text| number(&text)).transpose()?;
                self.persistent_s = Some(seconds.unwrap_or(PERSISTENT_S));
            }
            "-M" | "--netmask" => self.mask = Some(words.value(word)?),
            "--pe" => self.engine = Some(words.value(word)?),
            "-o" | "--ops" => self.one_packet = true,
            _ => self.take_of_server(word, words)?,
        }
        Ok(())
    }

    fn take_of_server(&mut self, word: &str, words: &mut Words) -> Result<(), String> {
        match word {
            "-m" | "--masquerading" => self.mode = Mode::Nat,
            "-g" | "--gatewaying" => self.mode = Mode::Dr,
            "-i" | "--ipip" => self.mode = Mode::Tunnel(Encapsulation::Ipip),
            "--fullnat" => self.mode = Mode::Fullnat,
            "-w" | "--weight" => self.weight = number(&words.value(word)?)?,
            "-x" | "--u-threshold" => self.thresholds.0 = number(&words.value(word)?)?,
            "-y" | "--l-threshold" => self.thresholds.1 = number(&words.value(word)?)?,
            "--tun-type" => self.tunnel.kind = Some(words.value(word)?),
            "--tun-port" => self.tunnel.port = port(&words.value(word)?)?,
            "--tun-csum" => self.tunnel.sums = true,
            "--tun-remcsum" => self.tunnel.remote = true,
            // What is so anyway, and how lists are printed.
            "--tun-nocsum" | "-n" | "--numeric" => {}
            _ => return Err(format!("`{word}` is no option of ipvsadm's")),
        }
        Ok(())
    }

    fn place(&mut self, protocol: Protocol, text: &str) -> Result<(), String> {
        self.key = Some(Key::Place(protocol, socket(text)?));
        Ok(())
    }

    /// With what goes together.
    fn finish(mut self) -> Result<Self, String> {
        let of_service =
            !matches!(self.verb, Verb::Clear | Verb::Set | Verb::StartDaemon | Verb::Other);
        if of_service && self.key.is_none() {
            return Err("it does not say which service (-t, -u, --sctp-service, -f)".into());
        }
        let of_server =
            matches!(self.verb, Verb::AddServer | Verb::EditServer | Verb::DeleteServer);
        if of_server && self.server.is_none() {
            return Err("it does not say which real server (-r)".into());
        }
        if matches!(self.verb, Verb::AddLocal | Verb::DeleteLocal) && self.local.is_none() {
            return Err("it does not say which local address (-z)".into());
        }
        // A server without a port has its service's.
        if let (Some(server), Some(Key::Place(_, place))) = (&mut self.server, &self.key)
            && server.port() == 0
        {
            server.set_port(place.port());
        }
        if let Mode::Tunnel(encapsulation) = &mut self.mode {
            *encapsulation = self.tunnel.encapsulation()?;
        }
        Ok(self)
    }
}

impl Tunnel {
    fn encapsulation(&self) -> Result<Encapsulation, String> {
        Ok(match self.kind.as_deref() {
            None | Some("ipip") => Encapsulation::Ipip,
            Some("gre") if !self.remote => Encapsulation::Gre { checksum: self.sums },
            Some("gue") if self.port > 0 => {
                let checksum = match (self.remote, self.sums) {
                    (true, _) => GueChecksum::Remote,
                    (_, true) => GueChecksum::Outer,
                    _ => GueChecksum::Zero,
                };
                Encapsulation::Gue { port: self.port, checksum }
            }
            Some("gue") => return Err("a GUE tunnel needs --tun-port".into()),
            Some(kind) => return Err(format!("`{kind}` is no tunnel that goes with this")),
        })
    }
}

/// The words of a line.
struct Words {
    /// The next one last.
    rest: Vec<String>,
}

impl Words {
    /// `-w3` and `--weight=3` are two words each.
    fn of(line: &str) -> Self {
        let mut rest: Vec<String> = line.split_whitespace().flat_map(parted).collect();
        rest.reverse();
        Self { rest }
    }

    fn next(&mut self) -> Option<String> {
        self.rest.pop()
    }

    fn value(&mut self, of: &str) -> Result<String, String> {
        self.next().ok_or_else(|| format!("`{of}` has no value"))
    }

    /// A value, if what follows is one.
    fn optional(&mut self) -> Option<String> {
        self.rest.pop_if(|word| !word.starts_with('-'))
    }
}

fn parted(word: &str) -> Vec<String> {
    let own = |parts: [&str; 2]| parts.map(str::to_owned).to_vec();
    match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => own([name, value]),
        _ if word.starts_with('-')
            && !word.starts_with("--")
            && word.is_char_boundary(2)
            && word.len() > 2 =>
        {
            own([&word[..2], &word[2..]])
        }
        _ => vec![word.to_owned()],
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("`{text}` is no port's number"))
}

/// `192.0.2.1:80`, `[2001:db8::1]:80`, or an address without a port.
fn socket(text: &str) -> Result<SocketAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    text.parse().or_else(|_| bare.parse().map(|address: IpAddr| (address, 0).into())).map_err(
        |_| format!("`{text}` is no address and port in numbers (ipvsadm -S -n writes numbers)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_all_their_spellings() {
        let short =
            read("-a -t 192.0.2.1:80 -r 10.0.0.1 -i -w 3 -x 9 -y 5 --tun-type gre --tun-csum");
        let long = read(
            "--add-server --tcp-service=192.0.2.1:80 --real-server 10.0.0.1:80 --ipip --weight=3 -x9 \
             --l-threshold 5 --tun-type=gre --tun-csum",
        );
        assert_eq!(short, long);
        let rule = short.unwrap();
        assert_eq!(rule.server, Some("10.0.0.1:80".parse().unwrap()));
        assert_eq!(rule.mode, Mode::Tunnel(Encapsulation::Gre { checksum: true }));
        assert_eq!((rule.weight, rule.thresholds), (3, (9, 5)));
    }

    #[test]
    fn persistence_may_have_a_time() {
        let seconds = |line| read(line).unwrap().persistent_s;
        assert_eq!(seconds("-A -t 192.0.2.1:80 -p"), Some(360));
        assert_eq!(seconds("-A -t 192.0.2.1:80 -p -s rr"), Some(360));
        assert_eq!(seconds("-A -t 192.0.2.1:80 -p 50 -s rr"), Some(50));
        assert_eq!(seconds("-A -t 192.0.2.1:80"), None);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_word() {
        let rows = [
            ("", "it is empty"),
            ("-X", "`-X` is no command"),
            ("listen 80;", "`listen` is no command"),
            ("-A -s rr", "it does not say which service"),
            ("-a -t 192.0.2.1:80 -w 1", "it does not say which real server"),
            ("-P -t 192.0.2.1:80", "it does not say which local address"),
            ("-A -t www.example.org:80", "`www.example.org:80` is no address and port in numbers"),
            ("-A -t 192.0.2.1:http", "`192.0.2.1:http` is no address and port in numbers"),
            ("-a -t 192.0.2.1:80 -r 10.0.0.1 -w heavy", "`heavy` is no number"),
            ("-a -t 192.0.2.1:80 -r 10.0.0.1 -w", "`-w` has no value"),
            ("-a -t 192.0.2.1:80 -r 10.0.0.1 --tun-type gue -i", "a GUE tunnel needs --tun-port"),
            ("-a -t 192.0.2.1:80 -r 10.0.0.1 --tun-type vxlan -i", "`vxlan` is no tunnel"),
            ("-A -t 192.0.2.1:80 --no-such 3", "`--no-such` is no option of ipvsadm's"),
            ("-A -t 192.0.2.1:80 -é", "`-é` is no option of ipvsadm's"),
            ("--set 1 2", "`--set` has no value"),
        ];
        for (line, expected) in rows {
            let said = read(line).unwrap_err();
            assert!(said.starts_with(expected), "{line}: {said}");
        }
    }
}
