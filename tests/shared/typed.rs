//! What the documents tell people to type, line by line, and what becomes of each line in the tests.
//!
//! ```text
//! ```sh            every line                  ┐            ┌─► run, against a daemon (tests/e2e/typed.rs)
//! ```text, console those that begin with `$ `  ├─► a fate ──┼─► run by another test, which has what it wants
//!                                              ┘  (RULES)   ├─► a target of the Makefile
//!                                                           └─► left alone, and why
//! ```
//!
//! A line has the fate of the first rule whose words it begins with; a line that no rule knows fails
//! `tests/docs/typed.rs`. So whoever writes a command into a page says what holds that it works, and an exception
//! stands here with its reason. A line goes on where a quote is open, or behind a backslash, as in a shell. What stands
//! below a line that begins with `$ ` is what it prints: lines of it that hold no figure are looked for in what it does print.

use std::fs;

/// What the daemon answers to `curl`: the status, and a piece of the body that the page promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) says: &'static str,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Run on the balancer; it ends with one of these codes.
    Ends(&'static [i32]),
    /// Run on the balancer for a moment, since it goes on until it is stopped.
    GoesOn,
    /// `curl`, run on the balancer; it is answered so.
    Answered(Answer),
    /// `curl`, likewise; the answer begins so, and goes on until it is stopped.
    AnsweredOn(Answer),
    /// Run on the balancer on a terminal, and stopped by its key.
    OnTerminal,
    /// The daemon itself: the lines of all pages are run beside it.
    Daemon,
    /// Run on a backend; it ends with 0.
    OnBackend,
    /// A target of the Makefile.
    Make,
    /// Run by the test in this file: with devices it has, or with smaller numbers.
    By(&'static str),
    /// Not run, for this reason: it is not ours.
    Left(&'static str),
}

const WELL: Fate = Fate::Ends(&[0]);
const BUILDS: Fate = Fate::Left("building has made the programs that run here");
const MACHINE: Fate = Fate::Left("it changes the machine, not a namespace");
const CARD: Fate = Fate::Left("it wants a network card");

const fn good(says: &'static str) -> Fate {
    Fate::Answered(Answer { status: 200, says })
}

/// What a line begins with, and its fate. The first that fits counts.
pub(crate) const RULES: &[(&str, Fate)] = &[
    ("shuntd run", Fate::Daemon),
    // 1 says that something would change.
    ("shuntd diff", Fate::Ends(&[0, 1])),
    ("shunt diff", Fate::Ends(&[0, 1])),
    // 1 says that something was not carried over.
    ("shunt import", Fate::Ends(&[0, 1])),
    // 1 says that this machine lacks something.
    ("shunt doctor", Fate::Ends(&[0, 1])),
    // They want a daemon that lets them attach.
    ("dpdk-pdump", Fate::By("tests/e2e/secondary.rs")),
    ("dpdk-dumpcap", Fate::By("tests/e2e/secondary.rs")),
    ("mkdir -p /dev/hugepages", MACHINE),
    ("tcpdump -n -r /run/shunt", Fate::By("tests/e2e/secondary.rs")),
    ("shunt watch", Fate::GoesOn),
    (
        "curl -N --unix-socket /run/shunt/admin.sock http://shunt/watch",
        Fate::AnsweredOn(Answer { status: 200, says: r#""event":"watching""# }),
    ),
    ("curl --cacert admin.crt", good(r#""accepting":true"#)),
    ("umask 077 && openssl rand", WELL),
    ("openssl req", WELL),
    ("ssh ", Fate::Left("it wants another machine")),
    ("shunt top", Fate::OnTerminal),
    ("shunt capture", Fate::GoesOn),
    ("shunt trace", Fate::GoesOn),
    ("shunt rates --interval 10", Fate::GoesOn),
    ("shunt rates --count 60", Fate::GoesOn),
    ("shuntd ", WELL),
    ("shunt ", WELL),
    ("shunt-bench generate", Fate::By("tests/e2e/generate.rs")),
    ("target/release/shunt-bench", Fate::By("tests/docs/bench.rs")),
    ("make ", Fate::Make),
    ("install ", WELL),
    ("sed -i 's/weight = 2/weight = 3/' /etc/shunt/shunt.toml", WELL),
    ("ln -s ", WELL),
    ("curl --unix-socket /run/shunt/admin.sock http://shunt/status", good(r#""accepting":true"#)),
    ("curl --unix-socket /run/shunt/admin.sock http://shunt/edit ", good(r#""version":"#)),
    (
        "curl --unix-socket /run/shunt/admin.sock http://shunt/hand ",
        good(r#""by_hand":{"weight":0,"ends_in_s":"#),
    ),
    (
        "curl --unix-socket /run/shunt/admin.sock -X PUT http://shunt/services/web/backends/10.44.0.13:8080 ",
        good("backend 10.44.0.13:8080"),
    ),
    (
        "curl --unix-socket /run/shunt/admin.sock -X DELETE http://shunt/services/web/backends/10.44.0.13:8080",
        good("backend 10.44.0.13:8080"),
    ),
    ("promtool check rules ", WELL),
    ("grep -E 'HugePages_", WELL),
    ("sysctl -w net.ipv4.conf.wan.", WELL),
    ("nft add ", WELL),
    ("sysctl -w net.ipv4.conf.all.arp_ignore=1", Fate::OnBackend),
    ("ip address add 198.51.100.10/32 dev lo", Fate::OnBackend),
    ("ip link add tunl-shunt", Fate::Left("not every kernel has the module of tunnels")),
    ("ip link set tunl-shunt", Fate::Left("not every kernel has the module of tunnels")),
    (
        "sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl-shunt",
        Fate::Left("not every kernel has the module of tunnels"),
    ),
    (
        "ipvsadm -S -n",
        Fate::Left("not every kernel has IPVS; what it prints is among the tests of the import"),
    ),
    ("cargo ", BUILDS),
    ("apt-get ", MACHINE),
    (
        "systemctl ",
        Fate::Left("no systemd runs in a namespace; tests/docs.rs has the unit's commands"),
    ),
    ("sysctl --system", MACHINE),
    ("echo 1024 > /sys/", MACHINE),
    ("modprobe ", CARD),
    ("ip link set enp59s0f0 down", CARD),
    ("dpdk-devbind.py ", CARD),
    ("dpdk-testpmd ", CARD),
];

/// A line somebody types.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    /// Where it stands.
    pub(crate) page: String,
    /// In which of the page's fenced blocks.
    pub(crate) block: usize,
    /// As a shell takes it, several lines if need be.
    pub(crate) line: String,
    /// What the page shows that it prints.
    pub(crate) prints: Vec<String>,
}

impl Typed {
    /// `None` if no rule knows it.
    pub(crate) fn fate(&self) -> Option<Fate> {
        let rule = RULES.iter().find(|(words, _)| self.line.starts_with(words));
        rule.map(|(_, fate)| *fate)
    }
}

/// All that is typed in the pages for who installs, runs or tries the balancer, in order.
pub(crate) fn typed() -> Vec<Typed> {
    let mut pages = vec!["README.md".to_owned()];
    for folder in ["docs", "dpdk-config"] {
        let files = fs::read_dir(folder).expect(folder).map(|entry| entry.expect(folder).path());
        let files = files.filter(|path| path.extension().is_some_and(|it| it == "md"));
        let mut files: Vec<_> = files.map(|path| path.display().to_string()).collect();
        files.sort();
        pages.append(&mut files);
    }
    let of = |page: &String| of_page(page, &fs::read_to_string(page).expect(page));
    pages.iter().flat_map(of).collect()
}

/// What the test in this file (`file!()`) has to run.
pub(crate) fn by(file: &str) -> Vec<Typed> {
    let mut lines = typed();
    lines.retain(|typed| matches!(typed.fate(), Some(Fate::By(named)) if named == file));
    lines
}

/// What is typed in one page.
pub(crate) fn of_page(page: &str, text: &str) -> Vec<Typed> {
    let (mut found, mut open): (Vec<Typed>, _) = (Vec::new(), None);
    let (mut block, mut begun) = (0, String::new());
    for line in text.lines().map(str::trim) {
        match (line.strip_prefix("```"), open) {
            (Some(language), None) => {
                open = Some(language);
                block += 1;
            }
            (Some(_), Some(_)) => open = None,
            (None, Some(language)) => match part(language, line, !begun.is_empty()) {
                Some(part) => {
                    begun += &part;
                    if !goes_on(&begun) {
                        let (page, line) = (page.to_owned(), std::mem::take(&mut begun));
                        found.push(Typed { page, block, line, prints: Vec::new() });
                    }
                }
                None if language != "sh" => {
                    if let Some(above) = found.last_mut().filter(|it| it.block == block) {
                        above.prints.push(line.to_owned());
                    }
                }
                None => {}
            },
            (None, None) => {}
        }
    }
    assert!(begun.is_empty(), "{page}: a quote is not closed: {begun}");
    found
}

/// What of a line within a block is typed; `is_more` if the line before goes on.
fn part(language: &str, line: &str, is_more: bool) -> Option<String> {
    let typed = match language {
        _ if is_more => return Some(format!("\n{line}")),
        "sh" => line,
        "text" | "console" => line.strip_prefix("$ ")?,
        _ => return None,
    };
    (!typed.is_empty() && !typed.starts_with('#')).then(|| typed.to_owned())
}

/// Is a quote open at its end, or a backslash there? An apostrophe in a remark is no quote.
fn goes_on(line: &str) -> bool {
    let (mut quoted, mut before) = (false, ' ');
    for letter in line.chars() {
        match letter {
            '\'' => quoted = !quoted,
            '#' if !quoted && before.is_whitespace() => return false,
            _ => {}
        }
        before = letter;
    }
    quoted || before == '\\'
}
