//! Network namespaces for one test: made, entered by a thread, removed whatever happens.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace. Removed on drop.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shunt-ctl-{}-{n}", std::process::id());
        sh(&format!("ip netns add {name} && ip -n {name} link set lo up"));
        let namespace = Self { name };
        namespace.sh("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.disable_ipv6=1");
        namespace
    }

    /// Runs a shell line inside; fails the test if it fails.
    pub(crate) fn sh(&self, line: &str) -> String {
        sh(&format!("ip netns exec {} sh -c '{line}'", self.name))
    }

    /// Runs `ip` inside.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        sh(&format!("ip -n {} {arguments}", self.name))
    }

    /// Moves this thread inside.
    pub(crate) fn enter(&self) {
        enter(&self.name);
    }

    /// Runs `work` on a runtime of a thread that is inside.
    pub(crate) fn run<T: Send, F: Future<Output = T>>(&self, work: impl FnOnce() -> F + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                tokio::task::LocalSet::new().block_on(&runtime.unwrap(), work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Runs a shell line; fails the test if it fails.
pub(crate) fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{line}` failed (these tests need root): {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Moves this thread into the namespace of that name.
pub(crate) fn enter(name: &str) {
    let file = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
    let fd = std::os::fd::AsFd::as_fd(&file);
    move_into_link_name_space(fd, Some(LinkNameSpaceType::Network)).unwrap();
}
