//! The documents, typed: every line of theirs that can be run is run, in order, on a box of the lab.
//!
//! ```text
//! README's first configuration ─► its own line starts the daemon ─► page after page, block after block
//!        (with the lab's links)                                        │
//!                                         each block finds the file and what runs as they were at first
//! ```
//!
//! The box looks as the documents say: `/etc/shunt/shunt.toml`, `/run/shunt/admin.sock`, programs in `/usr/bin`. A
//! mount namespace lays that over the machine's own folders, so nothing that is typed changes the machine.
//! What is not run, and why, is in `tests/shared/typed.rs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use lab::program::Signal;
use lab::{Program, command, programs, wait};

use crate::harness::Rig;
use crate::shared_typed::{Answer, Fate, Typed, typed};

const PATIENCE: Duration = Duration::from_secs(20);
/// For so long what goes on is let go on.
const MOMENT: &str = "1";
/// What a version of the running configuration stands between: in a body, and in a header.
const VERSIONS: [(&str, &str); 2] = [("\"version\": ", ","), ("if-match: \"", "\"")];
/// What `timeout` exits with when it had to stop the program.
const STOPPED: i32 = 124;

/// What is laid over the machine. It stays as long as the program at its end runs.
const LAY: &str = r#"
set -e
for folder in etc usr; do
  mkdir -p "$1/$folder" "$1/$folder.work"
  mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$1/$folder,workdir=$1/$folder.work" "/$folder"
done
mount -t tmpfs tmpfs /run
mkdir -p /etc/shunt /etc/keepalived
cp imports/keepalived.conf /etc/keepalived/
cp --remove-destination hosts /etc/hosts
echo laid
exec sleep 300
"#;

/// As it was at first, whatever was typed since: the file, what runs, and what pages make.
const TIDY: &str = "
set -e
rm -f shunt.toml imports/shunt.toml
cp --remove-destination first.toml /etc/shunt/shunt.toml
ln -s /etc/shunt/shunt.toml .
test ! -S /run/shunt/admin.sock || shunt reload
";

/// The page that has the lines which make certificate and token: the daemon wants them at its start.
const MAKES_CREDENTIALS: &str = "docs/remote-admin.md";
/// The box is reached over TLS as the page says, by a name that means this machine.
const REMOTE: &str = "[admin]\nlisten = \"127.0.0.1:9151\"\ncertificate_file = \"/etc/shunt/admin.crt\"\n\
                      key_file = \"/etc/shunt/admin.key\"\ntoken_file = \"/etc/shunt/admin.token\"\n";
const HOSTS: &str = "127.0.0.1 localhost lb1.example.net\n";
/// What was copied from another machine, for `doctor`.
const COPIED: [(&str, &str); 2] =
    [("proc/cpuinfo", "flags : avx2 bmi2 constant_tsc nonstop_tsc"), ("dev/net/tun", "")];

/// What a page finds in the folder its lines are typed in: those of the repository that are named, a new
/// configuration, and what the page on importing speaks of.
const OURS: [&str; 2] = ["README.md", "dpdk-config"];
/// Its lines are typed in a folder of their own: there `shunt.toml` is what is to be made.
const MAKES_A_FILE: &str = "docs/import-from-keepalived.md";
const MADE_IN: &str = "imports";
const PORTS: &str = "[shunt]\nworkers = [0]\n[[port]]\nname = \"wan\"\ndevice = \"net_null0\"\n";
const RULES: &str =
    "-A -t 198.51.100.30:80 -s rr\n-a -t 198.51.100.30:80 -r 10.44.0.11:80 -m -w 1\n";

/// The box, as the documents have it.
struct Desk<'rig> {
    rig: &'rig Rig,
    /// Whose namespaces everything is run in.
    holder: Program,
    folder: PathBuf,
}

impl<'rig> Desk<'rig> {
    fn new(rig: &'rig Rig) -> Self {
        let folder = rig.network.folder().join("desk");
        fs::create_dir(&folder).unwrap();
        fill(rig, &folder);
        let mut lay = rig.network.balancer.command("sh");
        let layers = rig.network.folder().join("layers");
        lay.current_dir(&folder).args(["-c", LAY, "lay"]).arg(layers);
        let mut holder = Program::start(&rig.network, "holder", lay).unwrap();
        let laid = |holder: &Program| Ok(holder.stdout().contains("laid"));
        holder.wait_until_ready(PATIENCE, laid).unwrap();
        Self { rig, holder, folder }
    }

    /// A shell with this line, on the box, where lines of that page are typed.
    fn shell(&self, page: &str, line: &str) -> Command {
        let folder =
            if page == MAKES_A_FILE { self.folder.join(MADE_IN) } else { self.folder.clone() };
        let mut shell = Command::new("nsenter");
        shell.args(["--mount", "--net", "--target", &self.holder.pid().to_string()]);
        shell.arg(format!("--wd={}", folder.display()));
        let programs = self.rig.binaries.shunt.parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        shell.args(["bash", "-c", line]).env("PATH", path).env_remove("SHUNT_SOCKET");
        shell
    }

    fn run(&self, line: &str) -> Output {
        self.run_of("", line)
    }

    fn run_of(&self, page: &str, line: &str) -> Output {
        command::output(&mut self.shell(page, line)).unwrap()
    }

    fn start(&self, line: &str) -> Program {
        let shell = self.shell("", &format!("exec {line}"));
        let mut daemon = Program::start(&self.rig.network, "shuntd", shell).unwrap();
        let answers = |_: &Program| Ok(self.run("shunt status").status.success());
        daemon.wait_until_ready(PATIENCE, answers).unwrap();
        daemon
    }

    /// File and daemon as they were at first, whatever was typed since.
    fn tidy(&self) {
        let laid = self.run(TIDY);
        assert!(laid.status.success(), "{laid:?}");
    }

    /// What is wrong with how a line ended, or with what it said, if anything is.
    fn wrong(&self, typed: &Typed, fate: Fate) -> Option<String> {
        let line = self.version_is_now(&typed.line);
        let (output, codes): (Output, &[i32]) = match fate {
            Fate::Ends(codes) => (self.run_of(&typed.page, &line), codes),
            Fate::GoesOn => (self.for_a_moment(&line), &[0, STOPPED]),
            Fate::Answered(_) => (self.run_of(&typed.page, &with_status(&line)), &[0]),
            Fate::AnsweredOn(_) => (self.for_a_moment(&with_status(&line)), &[0, STOPPED]),
            Fate::OnTerminal => (self.run(&on_a_terminal(&line)), &[0]),
            Fate::OnBackend => {
                let backend = &self.rig.network.backends[0];
                (command::output(backend.command("sh").args(["-c", &line])).unwrap(), &[0])
            }
            Fate::Daemon | Fate::Make | Fate::By(_) | Fate::Left(_) => return None,
        };
        let good = output.status.code().is_some_and(|code| codes.contains(&code));
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let wrong = match (good, missing(typed, fate, &said)) {
            (true, None) => return None,
            (true, Some(missing)) => missing,
            (false, _) => format!("it ended with {}", output.status),
        };
        Some(format!("{}: `{line}`: {wrong}: {said}", typed.page))
    }

    /// What goes on, until it is asked to end. There is one capture at a time: the one before may be ending.
    fn for_a_moment(&self, line: &str) -> Output {
        let run = || {
            let output = self.run(&going_on(line));
            let is_taken = String::from_utf8_lossy(&output.stderr).contains("one at a time");
            Ok((!is_taken).then_some(output))
        };
        wait::until("the capture before to end", PATIENCE, run).unwrap()
    }

    /// A version of the running configuration in a page is that of another daemon.
    fn version_is_now(&self, line: &str) -> String {
        let shown = |(before, after)| Some((before, between(line, before, after)?));
        let Some((before, shown)) = VERSIONS.into_iter().find_map(shown) else {
            return line.to_owned();
        };
        let asked = self.run("curl -sS --unix-socket /run/shunt/admin.sock http://shunt/config");
        let config: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
        line.replace(&format!("{before}{shown}"), &format!("{before}{}", config["version"]))
    }
}

/// Is it a line of those that make certificate and token?
fn makes_credentials(typed: &Typed) -> bool {
    typed.page == MAKES_CREDENTIALS && typed.line.contains("openssl ")
}

/// What stands between two texts.
fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    line.split_once(before)?.1.split_once(after).map(|(between, _)| between)
}

/// A line of `curl` that prints the status of the answer, too.
fn with_status(line: &str) -> String {
    line.replacen("curl ", "curl -sS --include ", 1)
}

/// What a page says that is not in what a line said: the answer, and those lines shown below it that hold no figure.
fn missing(typed: &Typed, fate: Fate, said: &str) -> Option<String> {
    if let Fate::Answered(Answer { status, says }) | Fate::AnsweredOn(Answer { status, says }) =
        fate
        && !(said.starts_with(&format!("HTTP/1.1 {status} ")) && said.contains(says))
    {
        return Some(format!("it was not answered with {status} and `{says}`"));
    }
    let folded = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let has_figure = |line: &String| line.is_empty() || line.contains(|c: char| c.is_ascii_digit());
    let said: Vec<_> = said.lines().map(folded).collect();
    let mut shown = typed.prints.iter().filter(|line| !has_figure(line)).map(|line| folded(line));
    shown.find(|line| !said.contains(line)).map(|line| format!("it did not print `{line}`"))
}

/// A line that is asked to end soon, all of it.
fn going_on(line: &str) -> String {
    format!("timeout --signal=INT --kill-after=5 {MOMENT} bash -c {}", quoted(line))
}

/// A line on a terminal of its own, where its key is pressed.
fn on_a_terminal(line: &str) -> String {
    let on_terminal = quoted(&format!("stty rows 24 cols 100; {line}"));
    format!(
        "(sleep {MOMENT}; printf q; sleep 0.5) | timeout 10 script -qec {on_terminal} /dev/null"
    )
}

fn quoted(line: &str) -> String {
    format!("'{}'", line.replace('\'', r"'\''"))
}

/// Everything the lines find in the folder they are typed in.
fn fill(rig: &Rig, folder: &Path) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in OURS {
        symlink(repository.join(name), folder.join(name)).unwrap();
    }
    fs::create_dir(folder.join("target")).unwrap();
    let programs = rig.binaries.shunt.parent().unwrap();
    symlink(programs, folder.join("target/release")).unwrap();
    let first = first_configuration(rig.network.name());
    let new = first.replace("weight = 2", "weight = 3");
    let imported = block(MAKES_A_FILE, "conf", "virtual_server");
    fs::create_dir(folder.join(MADE_IN)).unwrap();
    for (name, text) in [
        ("first.toml", first.as_str()),
        ("old.toml", &first),
        ("new.toml", &new),
        ("imports/keepalived.conf", &imported),
        ("imports/ports.toml", PORTS),
        ("imports/rules", RULES),
        ("hosts", HOSTS),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    for name in ["admin.crt", "admin.token"] {
        symlink(Path::new("/etc/shunt").join(name), folder.join(name)).unwrap();
    }
    for (name, text) in COPIED {
        let path = folder.join("copied").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// README's, on the links of the lab's balancer and with less memory.
fn first_configuration(name: &str) -> String {
    let text = block("README.md", "toml", "[[port]]");
    let text = text.replace("iface=eth1", "iface=lc").replace("iface=eth2", "iface=ls");
    let text = text.replace("workers = [1]", "workers = [0]");
    format!(
        "{text}\n[dpdk]\nmemory_mb = 256\npacket_buffers = 16384\nfile_prefix = \"{name}\"\n\
         [limits]\nconnections = 10000\n{REMOTE}"
    )
}

/// The fenced block of a page in this language that has these words.
fn block(page: &str, language: &str, words: &str) -> String {
    let text = fs::read_to_string(page).unwrap();
    let blocks = text.split("\n```").skip(1).step_by(2);
    let of_language = blocks.filter_map(|block| block.strip_prefix(&format!("{language}\n")));
    of_language.into_iter().find(|block| block.contains(words)).unwrap().to_owned()
}

#[test]
fn every_line_that_the_documents_tell_people_to_type_does_what_it_should() {
    let rig = Rig::new(1, 3);
    rig.network.give_ports_to_dpdk().unwrap();
    let desk = Desk::new(&rig);
    let lines = typed();
    for typed in lines.iter().filter(|typed| makes_credentials(typed)) {
        assert_eq!(desk.wrong(typed, Fate::Ends(&[0])), None);
    }
    desk.tidy();
    let daemon = lines.iter().find(|typed| typed.fate() == Some(Fate::Daemon)).unwrap();
    let mut daemon = desk.start(&daemon.line);
    let (mut wrong, mut run, mut at) = (Vec::new(), 0, ("", 0));
    for typed in &lines {
        let fate = typed.fate().unwrap();
        if at != (typed.page.as_str(), typed.block) {
            at = (&typed.page, typed.block);
            desk.tidy();
        }
        run += usize::from(!matches!(fate, Fate::Make | Fate::By(_) | Fate::Left(_)));
        wrong.extend(desk.wrong(typed, fate));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(run > 60, "only {run} of {} lines were run", lines.len());
    programs::curl(&rig.network.balancer, "http://127.0.0.1:9150/metrics").unwrap();
    daemon.signal(Signal::TERM).unwrap();
    assert!(daemon.wait_for_end(PATIENCE).unwrap().success(), "{}", daemon.tail());
}
