//! The checks of a real server: one block each, as what Shunt asks.
//!
//! | keepalived | `kind` | without counterpart |
//! |---|---|---|
//! | `TCP_CHECK`, `PING_CHECK` | `tcp`, `ping` | |
//! | `HTTP_GET`, `SSL_GET` | `http`, `https`; one for each `url` | `digest`, offsets, `regex_no_match` |
//! | `SMTP_CHECK` | `smtp` | several `host` blocks |
//! | `DNS_CHECK` | `dns` | |
//! | `UDP_CHECK` | `udp` | wildcards and lengths of the reply |
//! | `MISC_CHECK` | `script` | `misc_dynamic`, `user` |
//! | `BFD_CHECK`, `FILE_CHECK` | | all of it |
//!
//! What cannot be carried over whole is told with its line, and what is left of the check is written: a check
//! that asks less is better than none. Where nothing is left, nothing is.

use super::super::health::Check;
use super::super::note::Notes;
use super::blocks::Statement;
use super::checks::{Pace, Usual};
use super::values::{number, sayable, senseless, switch, unknown};
use super::words::words;
use crate::control::health::probe::sayable::Sayable;
use crate::control::health::probe::{expression, sayable as said};

/// Blocks of a real server that are checks.
pub(super) const CHECKERS: [&str; 10] = [
    "TCP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "SMTP_CHECK",
    "DNS_CHECK",
    "MISC_CHECK",
    "BFD_CHECK",
    "UDP_CHECK",
    "PING_CHECK",
    "FILE_CHECK",
];

/// What HTTP waits before it asks again.
const HTTP_AGAIN_MS: u32 = 3_000;
/// Name keepalived gives itself to mail servers.
const HELO: &str = "smtpchecker.keepalived.org";
/// Record types `shunt.toml` knows of those keepalived does.
const RECORDS: [&str; 7] = ["A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA"];

/// One check's block, read so far.
struct Block<'a> {
    statement: &'a Statement,
    pace: Pace,
    /// Who is asked in the real server's place.
    address: Option<String>,
    port: Option<u32>,
    notes: &'a mut Notes,
}

/// The checks of a block: several if it asks for several pages. True beside them if they begin down.
pub(super) fn checker(
    statement: &Statement,
    around: &Pace,
    notes: &mut Notes,
) -> (Vec<Check>, bool) {
    let pace = around.clone();
    let mut block = Block { statement, pace, address: None, port: None, notes };
    let checks = match statement.keyword() {
        "TCP_CHECK" => block.plain("tcp"),
        "PING_CHECK" => block.plain("ping"),
        "HTTP_GET" => block.http("http"),
        "SSL_GET" => block.http("https"),
        "SMTP_CHECK" => block.smtp(),
        "DNS_CHECK" => block.dns(),
        "UDP_CHECK" => block.udp(),
        "MISC_CHECK" => block.script(),
        _ => block.nothing(),
    };
    (checks, block.pace.alpha)
}

impl Block<'_> {
    /// Reads what all checks have; `own` reads the rest, and says whether it has.
    fn read(&mut self, mut own: impl FnMut(&Statement, &mut Notes) -> bool) {
        for line in self.statement.inside() {
            let is_known = own(line, &mut *self.notes) || self.pace.take(line, &mut *self.notes);
            if !is_known && !self.place(line) {
                unknown(line, self.notes);
            }
        }
    }

    /// Who is asked, and from where.
    fn place(&mut self, line: &Statement) -> bool {
        match line.keyword() {
            "connect_ip" => {
                let address = line.value().filter(|it| it.parse::<std::net::IpAddr>().is_ok());
                if address.is_none() {
                    senseless(line, "an address", self.notes);
                }
                self.address = address.map(str::to_owned);
            }
            "connect_port" => {
                self.port = number(line, self.notes).filter(|port| (1..=65_535).contains(port));
            }
            "bindto" | "bind_if" | "bind_port" | "fwmark" => {
                let why = "checks leave by the kernel's own routes, from the address it chooses";
                self.lost(line, why, "give the route a source (`ip route … src`)");
            }
            _ => return false,
        }
        true
    }

    fn lost(&mut self, line: &Statement, why: &str, mend: &str) {
        self.notes.lost(&line.place, &line.text(), why, mend);
    }

    /// A check of that kind, with all that was read.
    fn check(&self, kind: &str, usual: Usual, own: impl FnOnce(&mut Check)) -> Check {
        let mut check = Check::new(kind);
        if let Some(address) = &self.address {
            check.text("address", address);
        }
        if let Some(port) = self.port.filter(|_| check.has_port()) {
            check.number("port", port);
        }
        self.pace.write(&mut check, usual);
        own(&mut check);
        check
    }

    fn plain(&mut self, kind: &str) -> Vec<Check> {
        self.read(|_, _| false);
        vec![self.check(kind, Usual::MOST, |_| {})]
    }

    fn nothing(&mut self) -> Vec<Check> {
        let why = "Shunt has no such check";
        let mend = "a check of kind `script` may do it";
        self.notes.lost(&self.statement.place, &self.statement.text(), why, mend);
        Vec::new()
    }

    fn smtp(&mut self) -> Vec<Check> {
        let mut helo = HELO.to_owned();
        self.read(|line, notes| {
            match line.keyword() {
                "helo_name" => {
                    if let Some(name) = sayable(line, said::visible, notes) {
                        helo = name;
                    }
                }
                "host" => {
                    let why = "hosts of a check are not carried over";
                    notes.lost(
                        &line.place,
                        &line.text(),
                        why,
                        "write a check for each, with `address`",
                    );
                }
                _ => return false,
            }
            true
        });
        vec![self.check("smtp", Usual::MOST, |check| check.text("helo", &helo))]
    }

    fn dns(&mut self) -> Vec<Check> {
        let (mut name, mut record) = (".".to_owned(), "SOA".to_owned());
        self.read(|line, notes| {
            match (line.keyword(), line.value()) {
                ("name", _) => {
                    if let Some(domain) = sayable(line, said::domain, notes) {
                        let bare = domain.strip_suffix('.').filter(|it| !it.is_empty());
                        bare.unwrap_or(&domain).clone_into(&mut name);
                    }
                }
                ("type", Some(word)) if RECORDS.contains(&word) => word.clone_into(&mut record),
                ("type", _) => senseless(line, &format!("one of {}", RECORDS.join(", ")), notes),
                _ => return false,
            }
            true
        });
        let usual = Usual { retry: 3, retry_after_ms: None, ..Usual::MOST };
        vec![self.check("dns", usual, |check| {
            check.text("name", &name);
            check.text("type", &record);
        })]
    }

    fn udp(&mut self) -> Vec<Check> {
        let (mut send, mut expect) = (None, None);
        self.read(|line, notes| {
            let hex = line.values().concat().to_ascii_lowercase().replace(char::is_whitespace, "");
            let is_hex = hex.len().is_multiple_of(2) && hex.bytes().all(|c| c.is_ascii_hexdigit());
            match line.keyword() {
                "payload" if is_hex && !hex.is_empty() => send = Some(hex),
                "payload" => senseless(line, "bytes in hexadecimal", notes),
                "require_reply" if is_hex => expect = Some(hex),
                "require_reply" => {
                    expect = Some(String::new());
                    let why = "a reply is compared byte by byte: any reply will do instead";
                    notes.lost(
                        &line.place,
                        &line.text(),
                        why,
                        "write `expect_hex`, a part of the reply",
                    );
                }
                "min_reply_length" | "max_reply_length" => {
                    let why = "the length of a reply is not looked at";
                    notes.lost(
                        &line.place,
                        &line.text(),
                        why,
                        "write `expect_hex`, a part of the reply",
                    );
                }
                _ => return false,
            }
            true
        });
        if send.is_none() {
            let why = "without a `payload` keepalived sends bytes at random; here it is an empty datagram";
            self.notes.changed(&self.statement.place, &self.statement.text(), why);
        }
        vec![self.check("udp", Usual::MOST, |check| {
            if let Some(send) = &send {
                check.text("send_hex", send);
            }
            match expect.as_deref() {
                Some("") => check.text("expect", ""),
                Some(hex) => check.text("expect_hex", hex),
                None => {}
            }
        })]
    }

    fn script(&mut self) -> Vec<Check> {
        let mut command = Vec::new();
        // Only its own counts.
        self.pace.forget_timeout();
        self.read(|line, notes| {
            let lost =
                |why, mend, notes: &mut Notes| notes.lost(&line.place, &line.text(), why, mend);
            match line.keyword() {
                "misc_path" => {
                    // The first value is the whole line, with quotes of its own.
                    command = words(line.value().unwrap_or_default());
                    if line.values().len() > 1 {
                        let why = "what is not in quotes with the program is no argument of it";
                        notes.changed(&line.place, &line.text(), why);
                    }
                }
                "misc_dynamic" if switch(line) => {
                    let why = "exit codes above 0 set no weight: they are failures";
                    lost(why, "let the program set it: `shunt weight`", notes);
                }
                "misc_dynamic" => {}
                "user" => {
                    let why = "programs run as the user of shuntd";
                    lost(why, &as_user(line.values()), notes);
                }
                _ => return false,
            }
            true
        });
        if said::command(&command).is_err() {
            let why = "a program is named by its whole path, and no word has a NUL in it";
            self.lost(self.statement, why, "write `command`");
            return Vec::new();
        }
        let usual = Usual { retry: 0, timeout_ms: None, ..Usual::MOST };
        vec![self.check("script", usual, |check| check.texts("command", &command))]
    }

    fn http(&mut self, kind: &'static str) -> Vec<Check> {
        let (mut pages, mut asks_by_name, mut name) = (Vec::new(), false, None);
        let is_named = self.statement.inside().iter().any(|line| line.keyword() == "sni_name");
        // Else the certificate must be for the host.
        let rule = if kind == "https" && !is_named { said::tls_host } else { said::host };
        self.read(|line, notes| {
            match line.keyword() {
                "url" => pages.push(page(line, rule, notes)),
                "enable_sni" => asks_by_name = switch(line),
                "sni_name" => name = sayable(line, said::name, notes),
                "http_protocol" if line.value() != Some("1.1") => {
                    let why = "HTTP/1.1 is spoken, and the connection closed behind the answer";
                    notes.changed(&line.place, &line.text(), why);
                }
                "http_protocol" | "fast_recovery" => {}
                "tls_compliant" => {
                    notes.remark(&line.place, &line.text(), "TLS is spoken as it is written");
                }
                _ => return false,
            }
            true
        });
        if pages.is_empty() {
            let why = "no `url` says what is asked for";
            self.lost(self.statement, why, "write `path`");
        }
        let usual = Usual { retry_after_ms: Some(HTTP_AGAIN_MS), ..Usual::MOST };
        let around = self.host_around(rule);
        let write = |page: Page| {
            self.check(kind, usual, |check| {
                let host = page.host.or_else(|| around.clone());
                // Of a host with a port the name alone is asked for, without being told.
                let by_host = host.clone().filter(|it| asks_by_name && said::name(it).is_ok());
                let sni = name.clone().or(by_host);
                check.text("path", &page.path);
                if let Some(host) = &host {
                    check.text("host", host);
                }
                if let Some(sni) = sni.filter(|_| kind == "https") {
                    check.text("sni", &sni);
                }
                if !page.status.is_empty() {
                    check.texts("status", &page.status);
                }
                if let Some(regex) = &page.regex {
                    check.text("body_regex", regex);
                }
            })
        };
        pages.into_iter().map(write).collect()
    }

    /// The host that is asked for where a page names none: said around this block, for checks of any kind.
    fn host_around(&mut self, rule: Rule) -> Option<String> {
        let host = self.pace.virtualhost.clone()?;
        if rule(&host).is_err() {
            let why = format!("`virtualhost {host}` is no name to ask for in TLS");
            self.lost(self.statement, &why, "write `host`, and `sni` with the certificate's name");
            return None;
        }
        Some(host)
    }
}

/// What can be said, and what cannot.
type Rule = fn(&str) -> Sayable;

/// What a `url` block asks for.
struct Page {
    path: String,
    host: Option<String>,
    status: Vec<String>,
    regex: Option<String>,
}

fn page(block: &Statement, host: Rule, notes: &mut Notes) -> Page {
    let mut page = Page { path: "/".into(), host: None, status: vec![], regex: None };
    let (mut regex, mut options, mut is_inverted) = (None, String::new(), false);
    for line in block.inside() {
        let lost = |why, mend, notes: &mut Notes| notes.lost(&line.place, &line.text(), why, mend);
        match line.keyword() {
            "path" => {
                if let Some(path) = sayable(line, said::path, notes) {
                    page.path = path;
                }
            }
            "virtualhost" => page.host = sayable(line, host, notes),
            "status_code" => {
                let codes = line.values().iter().flat_map(|it| it.split([',', ' ']));
                let codes: Vec<String> =
                    codes.filter(|it| !it.is_empty()).map(str::to_owned).collect();
                match codes.iter().find(|code| !is_status(code)) {
                    Some(_) => senseless(line, "status codes and ranges of them", notes),
                    None => page.status = codes,
                }
            }
            "regex" => regex = Some((line, line.values().join(" "))),
            "regex_options" => match flags(line.values()) {
                Some(flags) => options = flags,
                None => lost(
                    "not all of these options are known",
                    "write them into `body_regex`",
                    notes,
                ),
            },
            "regex_stack" => {}
            "digest" => lost("bodies are not digested", "write `body` or `body_regex`", notes),
            "regex_no_match" => {
                is_inverted = true;
                lost(
                    "a body can be asked to match, not to fail to",
                    "let the server say it by a status",
                    notes,
                );
            }
            "regex_min_offset" | "regex_max_offset" => {
                lost("the first 64 KiB of a body are looked at", "leave it out", notes);
            }
            _ => unknown(line, notes),
        }
    }
    page.regex = regex.filter(|_| !is_inverted).and_then(|(line, regex)| {
        let regex = options + &regex;
        let fault = expression(&regex).err();
        if let Some(fault) = &fault {
            let why = format!("it is no expression here: {fault}");
            notes.lost(&line.place, &line.text(), &why, "write `body_regex` without look-around");
        }
        fault.is_none().then_some(regex)
    });
    page
}

/// `200`, `200-299`.
fn is_status(text: &str) -> bool {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.parse::<u16>().ok().filter(|code| (100..=599).contains(code));
    code(first).zip(code(last)).is_some_and(|(first, last)| first <= last)
}

/// What runs a program as that user, and that group if one is named.
fn as_user(names: &[String]) -> String {
    let name = |at: usize, usual: &str| names.get(at).cloned().unwrap_or_else(|| usual.to_owned());
    let (user, group) = (name(0, "USER"), name(1, "GROUP"));
    let words = format!("`/usr/bin/setpriv`, `--reuid={user}`, `--regid={group}`, `--init-groups`");
    format!("begin `command` with {words}")
}

/// Options of PCRE2 that Rust's expressions have, as the front of one.
fn flags(words: &[String]) -> Option<String> {
    let flag = |word: &String| match word.as_str() {
        "caseless" => Some('i'),
        "multiline" => Some('m'),
        "dotall" => Some('s'),
        "extended" => Some('x'),
        "ungreedy" => Some('U'),
        _ => None,
    };
    let flags: String = words.iter().map(flag).collect::<Option<_>>()?;
    Some(if flags.is_empty() { flags } else { format!("(?{flags})") })
}
