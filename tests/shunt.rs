//! The `shunt` program from outside: exit codes and sentences.

#![expect(clippy::unwrap_used, reason = "a test says no by panicking")]

use std::process::{Command, Output};

fn shunt(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
    command.args(arguments).env_remove("SHUNT_SOCKET").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_a_daemon_it_says_where_it_looked_and_exits_with_1() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let socket = socket.to_str().unwrap();
    for command in ["status", "services", "connections", "reload"] {
        let output = shunt(&["--socket", socket, command]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let text = said(&output);
        assert!(text.starts_with(&format!("shunt: no shuntd answers on {socket}")), "{text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_socket_left_behind_is_no_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let output = shunt(&["--socket", path.to_str().unwrap(), "status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("is it running"), "{}", said(&output));
}

#[test]
fn something_that_is_no_shuntd_is_told_apart() {
    use std::io::{Read, Write};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
    });
    let output = shunt(&["--socket", path.to_str().unwrap(), "status"]);
    other.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("are shunt and shuntd of one version?"), "{}", said(&output));
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let lines: [&[&str]; 5] = [
        &[],
        &["statsu"],
        &["connections", "--limit", "0"],
        &["connections", "--limit", "many"],
        &["status", "--client", "10.0.0.1"],
    ];
    for line in lines {
        assert_eq!(shunt(line).status.code(), Some(2), "{line:?}");
    }
}
