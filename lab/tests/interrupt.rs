//! Ctrl-C at any moment: exit code 130, and nothing left.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing test panics")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::program::Signal;
use lab::{cleanup, wait};
use rustix::process::{Pid, kill_process_group};

/// Starts a program as a shell does: in a process group of its own.
fn start(program: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command.spawn().unwrap()
}

fn hold() -> Child {
    start(env!("CARGO_BIN_EXE_lab"), &["hold"])
}

/// Reads what it prints up to a line that begins so.
fn wait_for_line(child: &mut Child, start: &str) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with(start)), "it came as far as {start:?}");
    // Read on, lest it stops because nobody does.
    std::thread::spawn(move || lines.for_each(drop));
}

/// Names of what the process with this pid has made, in `folder`.
fn made_in(folder: &Path, pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&format!("{}{pid}-", cleanup::PREFIX))).collect()
}

/// Whole command lines of living processes that hold a name of this process.
fn programs_of(pid: u32) -> Vec<String> {
    let mark = format!("{}{pid}-", cleanup::PREFIX);
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&mark))
        .collect()
}

/// Sends what Ctrl-C sends, to the whole group; then checks how it ended and what is left.
fn interrupt(mut child: Child, when: &str) {
    let pid = child.id();
    let group = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process_group(group, Signal::INT).unwrap();
    let ended = wait::until("it to end", Duration::from_secs(20), || Ok(child.try_wait()?));
    let _gone_already = child.kill();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(ended.unwrap().code(), Some(130), "{when}: {said}");
    assert_eq!(said, "lab: stopped by a signal, removing what was made\n", "{when}");
    let mut folders = cleanup::huge_page_mounts();
    folders.extend(["/var/run/netns", cleanup::DPDK_RUN_FOLDER].map(PathBuf::from));
    folders.push(std::env::temp_dir());
    for folder in folders {
        assert_eq!(made_in(&folder, pid), Vec::<String>::new(), "{when}: {}", folder.display());
    }
    assert_eq!(programs_of(pid), Vec::<String>::new(), "{when}");
}

#[test]
fn ctrl_c_while_programs_run_ends_with_130_and_leaves_nothing() {
    for _ in 0..5 {
        let mut child = hold();
        wait_for_line(&mut child, "held until Ctrl-C");
        assert!(programs_of(child.id()).len() >= 3, "its web servers run");
        interrupt(child, "held");
    }
}

#[test]
fn ctrl_c_while_the_network_is_being_made_ends_with_130_and_leaves_nothing() {
    let namespaces = Path::new("/var/run/netns");
    for so_far in 1..=6 {
        let child = hold();
        let begun = || Ok(made_in(namespaces, child.id()).len() >= so_far);
        wait::until_true("a namespace", Duration::from_secs(20), begun).unwrap();
        interrupt(child, &format!("{so_far} hosts made"));
    }
}

#[test]
fn ctrl_c_in_any_step_of_the_demo_ends_with_130_and_leaves_nothing() {
    // The demo wants `shuntd` beside it: `cargo build --workspace --bins`, as `make test` does.
    for step in ["  VIP", "== 1.", "== 2.", "== 3.", "== 4.", "== SIGTERM"] {
        let mut child = start(env!("CARGO_BIN_EXE_demo"), &[]);
        wait_for_line(&mut child, step);
        interrupt(child, step);
    }
}
