//! The daemon itself, as a process: what it does when told to end while it still starts, and what
//! it says when it refuses to. Needs root: each daemon runs in a network namespace of its own, on
//! DPDK's `net_null`, which receives nothing and needs no card.

#![expect(clippy::unwrap_used, reason = "a test says no by panicking")]

#[path = "shuntd/log.rs"]
mod log;
#[path = "shuntd/unit.rs"]
mod unit;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// DPDK takes all of a core while it starts: one daemon at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A namespace, a folder and a configuration; all gone on drop.
struct Bench {
    namespace: String,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// A daemon that is running, or was.
struct Daemon {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

const CONFIG: &str = r#"
[shunt]
workers = [0]
admin_socket = "FOLDER/run/admin.sock"
drain_deadline_s = 1

[dpdk]
huge_pages = "never"
memory_mb = 64
packet_buffers = 4096
file_prefix = "PREFIX"

[limits]
connections = 1024

[metrics]
listen = "127.0.0.1:9777"

[[port]]
name = "wan"
device = "net_null0"
tap = "wan0"
addresses = ["192.0.2.1/24"]
"#;

impl Bench {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("shuntd-test-{}-{n}", std::process::id());
        sh(&format!("ip netns add {namespace} && ip -n {namespace} link set lo up"));
        Self { namespace, folder: tempfile::tempdir().unwrap(), _turn: turn }
    }

    fn config(&self) -> String {
        let folder = self.folder.path().to_str().unwrap();
        CONFIG.replace("FOLDER", folder).replace("PREFIX", &self.namespace)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/admin.sock")
    }

    fn start(&self, config: &str) -> Daemon {
        self.start_with(config, &[])
    }

    /// With these variables in its environment.
    fn start_with(&self, config: &str, variables: &[(&str, &str)]) -> Daemon {
        let file = self.folder.path().join("shunt.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, env!("CARGO_BIN_EXE_shuntd")]);
        command.args(["run", "--config"]).arg(file).envs(variables.iter().copied());
        Daemon::of(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Runs a daemon that refuses to start; its exit code and what it said.
    fn refused(&self, config: &str) -> (Option<i32>, String) {
        let mut daemon = self.start(config);
        let status = daemon.end();
        (status.code(), std::mem::take(&mut daemon.said))
    }

    fn links(&self) -> String {
        sh(&format!("ip -n {} -brief link show", self.namespace))
    }

    fn assert_nothing_left(&self, when: &str) {
        assert!(!self.socket().exists(), "{when}: the socket is left");
        assert!(!self.links().contains("wan0"), "{when}: the TAP is left");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

impl Daemon {
    /// One that was started with its standard error piped.
    fn of(mut child: Child) -> Self {
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, said: String::new() }
    }

    /// Reads what it says until a line holds `words`.
    fn until(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            let more = self.stderr.read_line(&mut line).unwrap();
            self.said += &line;
            assert!(more > 0, "no {words:?} in {}", self.said);
        }
    }

    fn signal(&self, name: &str) {
        sh(&format!("kill -{name} {}", self.child.id()));
    }

    /// Waits for the end, at most 20 seconds.
    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "does not end; said {}", self.said);
            std::thread::sleep(Duration::from_millis(10));
        };
        self.stderr.read_to_string(&mut self.said).unwrap();
        status
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{line}` failed (these tests need root): {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// How long after its first word a daemon gets the signal: before, in and after each step.
const DELAYS_MS: [u64; 7] = [0, 5, 20, 50, 100, 200, 400];

#[test]
fn a_signal_during_the_start_ends_it_in_order_and_leaves_nothing() {
    let bench = Bench::new();
    for (name, delay) in ["TERM", "INT"].into_iter().flat_map(|n| DELAYS_MS.map(|d| (n, d))) {
        let when = format!("SIG{name} after {delay} ms");
        let mut daemon = bench.start(&bench.config());
        daemon.until("configuration");
        std::thread::sleep(Duration::from_millis(delay));
        daemon.signal(name);
        let status = daemon.end();
        let (code, signal) = (status.code(), status.signal());
        assert_eq!((code, signal), (Some(0), None), "{when}: {}", daemon.said);
        bench.assert_nothing_left(&when);
    }
}

#[test]
fn a_hangup_during_the_start_is_a_reload_once_it_is_over() {
    let bench = Bench::new();
    for delay in DELAYS_MS {
        let mut daemon = bench.start(&bench.config());
        daemon.until("configuration");
        std::thread::sleep(Duration::from_millis(delay));
        daemon.signal("HUP");
        daemon.until("ready");
        daemon.until("reload: ");
        daemon.signal("TERM");
        assert_eq!(daemon.end().code(), Some(0), "after {delay} ms: {}", daemon.said);
        bench.assert_nothing_left("after the end");
    }
}

/// How a start is spoilt, and what must be said of it: words, and lines that are not empty.
struct Refusal {
    what: &'static str,
    from: &'static str,
    to: &'static str,
    words: &'static [&'static str],
}

const REFUSALS: &[Refusal] = &[
    Refusal {
        what: "a device whose interface does not exist",
        from: "net_null0",
        to: "net_af_packet0,iface=nosuch0",
        words: &[
            "shunt.toml:21: port wan (net_af_packet0,iface=nosuch0): there is no interface nosuch0 here",
            "; to mend it: ip -brief link show",
        ],
    },
    Refusal {
        what: "an EAL argument that does not exist",
        from: "memory_mb = 64",
        to: "memory_mb = 64\neal_arguments = [\"--no-such\"]",
        words: &["EAL did not start: ", "unrecognized option '--no-such'"],
    },
    Refusal {
        what: "more memory than there is",
        from: "memory_mb = 64",
        to: "memory_mb = 900000",
        words: &["memory_mb 900000 is more than this machine has available"],
    },
    Refusal {
        what: "a metrics address of another machine",
        from: "127.0.0.1:9777",
        to: "192.0.2.99:9777",
        words: &[
            "cannot listen on 192.0.2.99:9777 for /metrics: Cannot assign requested address",
            "; change `listen` under [metrics]",
        ],
    },
    Refusal {
        what: "a socket below a file",
        from: "/run/admin.sock",
        to: "/shunt.toml/admin.sock",
        words: &["cannot use the folder of admin_socket", "choose another `admin_socket`"],
    },
];

#[test]
fn a_refusal_to_start_is_one_line_with_one_cause_and_exit_code_2() {
    let bench = Bench::new();
    for case in REFUSALS {
        assert!(CONFIG.contains(case.from), "{}: the table is out of date", case.what);
        let (code, said) = bench.refused(&bench.config().replace(case.from, case.to));
        assert_eq!(code, Some(2), "{}: {said}", case.what);
        let own = said.lines().filter(|line| !line.contains("INFO") && !line.contains("WARN"));
        let own: Vec<&str> = own.collect();
        assert!(own.len() == 1 && own[0].starts_with("shuntd: "), "{}: {own:?}", case.what);
        for word in case.words {
            assert_eq!(own[0].matches(word).count(), 1, "{}: {word:?} in {own:?}", case.what);
        }
        bench.assert_nothing_left(case.what);
    }
}

#[test]
fn a_daemon_that_was_killed_is_followed_by_the_next_at_once() {
    let bench = Bench::new();
    let mut first = bench.start(&bench.config());
    first.until("ready");
    first.signal("KILL");
    let mut second = bench.start(&bench.config());
    second.until("ready");
    second.signal("TERM");
    assert_eq!(second.end().code(), Some(0), "{}", second.said);
    bench.assert_nothing_left("after the second");
}
