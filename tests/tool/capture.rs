//! `shunt capture` from outside, against answers of a daemon's kind: what happens to the file and to the exit code.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use shunt::control::admin::answers::capture::pcapng::{Direction, Frame, Writer};

use super::text;

const OLD: &str = "an older capture";
const FRAMES: u32 = 3;

/// What a daemon answers.
enum Answer {
    /// A whole capture.
    Whole,
    /// A capture that ends in the middle.
    Half,
    /// It cannot now.
    Busy,
}

fn file() -> Vec<u8> {
    let mut writer = Writer::default();
    writer.section("shunt");
    writer.interface("wan-in", "received by port wan", 2048);
    for number in 0..FRAMES {
        let (bytes, time_ns) = ([0_u8; 60].as_slice(), u64::from(number));
        writer.frame(Frame { interface: 0, time_ns, direction: Direction::In, bytes, length: 60 });
    }
    writer.missed(0, 0, 0);
    writer.take()
}

impl Answer {
    fn bytes(&self) -> Vec<u8> {
        let (status, body) = match self {
            Self::Whole => ("200 OK", file()),
            Self::Half => ("200 OK", file().split_at(file().len() / 2).0.to_vec()),
            Self::Busy => ("409 Conflict", br#"{"error":"a capture is running already"}"#.to_vec()),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.into_bytes(), body].concat()
    }
}

/// `shunt capture` in a folder, with programs of the folder's `bin` before all others; without an answer nobody listens.
fn captured(folder: &Path, answer: Option<&Answer>, arguments: &[&str]) -> Output {
    let socket = folder.join("admin.sock");
    let _ = fs::remove_file(&socket);
    let listener = answer.map(|_| UnixListener::bind(&socket).unwrap());
    thread::scope(|scope| {
        if let (Some(listener), Some(answer)) = (listener, answer) {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(&answer.bytes()).unwrap();
            });
        }
        let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
        let mut shunt = Command::new(env!("CARGO_BIN_EXE_shunt"));
        shunt.arg("--socket").arg(&socket).arg("capture").args(arguments).env("PATH", path);
        shunt.current_dir(folder).stdin(Stdio::null()).output().unwrap()
    })
}

/// A program that is found in the place of `tcpdump`.
fn tcpdump(folder: &Path, script: &str) {
    let program = folder.join("bin/tcpdump");
    fs::create_dir_all(folder.join("bin")).unwrap();
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_file_keeps_what_it_has_until_the_daemon_captures() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept.pcapng");
    let rows = [
        (None, OLD.as_bytes().to_vec(), 1, "no shuntd answers on"),
        (Some(Answer::Busy), OLD.as_bytes().to_vec(), 1, "a capture is running already"),
        (Some(Answer::Whole), file(), 0, "3 frames captured, 0 missed"),
    ];
    for (answer, wanted, code, said) in rows {
        fs::write(&kept, OLD).unwrap();
        let output = captured(folder.path(), answer.as_ref(), &["-w", "kept.pcapng"]);
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert_eq!(fs::read(&kept).unwrap(), wanted, "{said}");
    }
    let none = captured(folder.path(), Some(&Answer::Busy), &["-w", "new.pcapng"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(!folder.path().join("new.pcapng").exists(), "a refusal leaves no empty file");
}

#[test]
fn a_file_that_takes_no_frames_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [
        (
            "/dev/full",
            "cannot write /dev/full: No space left on device",
            "what is there can be read",
        ),
        (
            "none/x.pcapng",
            "cannot write none/x.pcapng: No such file or directory",
            "nothing was captured",
        ),
    ];
    for (path, reason, left) in rows {
        let output = captured(folder.path(), Some(&Answer::Whole), &["-w", path]);
        let said = text(&output.stderr);
        assert!(said.contains(reason) && said.contains(left), "{said}");
        assert_eq!(output.status.code(), Some(1));
    }
    // What has no disk behind it, and cannot be synced, is no error.
    let null = captured(folder.path(), Some(&Answer::Whole), &["-w", "/dev/null"]);
    assert_eq!(null.status.code(), Some(0), "{}", text(&null.stderr));
}

#[test]
fn a_capture_that_breaks_off_keeps_its_frames_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let output = captured(folder.path(), Some(&Answer::Half), &["-w", "half.pcapng"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("broke off after 1 frames"), "{}", text(&output.stderr));
    let kept = fs::read(folder.path().join("half.pcapng")).unwrap();
    assert_eq!(kept, file().split_at(file().len() / 2).0);
}

#[test]
fn the_exit_code_of_the_tcpdump_that_prints_is_passed_on() {
    let rows = [
        ("cat >/dev/null; exit 0", 0, "3 frames captured"),
        ("cat >/dev/null; exit 3", 3, "tcpdump ended with exit code 3"),
        // Without reading a byte.
        ("exit 4", 4, "tcpdump ended with exit code 4"),
        ("kill -KILL $$", 137, "tcpdump ended with exit code 137"),
        // Its reader has left, as in `shunt capture | head`.
        ("cat >/dev/null; kill -PIPE $$", 0, "3 frames captured"),
    ];
    for (script, code, said) in rows {
        let folder = tempfile::tempdir().unwrap();
        tcpdump(folder.path(), script);
        let output = captured(folder.path(), Some(&Answer::Whole), &[]);
        assert_eq!(output.status.code(), Some(code), "{script}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(said), "{script}: {}", text(&output.stderr));
    }
}

#[test]
fn no_tcpdump_is_started_for_a_daemon_that_refuses() {
    let folder = tempfile::tempdir().unwrap();
    tcpdump(folder.path(), "touch started");
    let output = captured(folder.path(), Some(&Answer::Busy), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!folder.path().join("started").exists());
}
