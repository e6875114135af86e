//! Changes at runtime: made whole or not at all, seen as drift, saved or undone.

use shunt::cli::request::{RequestError, Socket};
use shunt::control::admin::view::{Drift, EditKind};
use shunt::control::edit::Which;

use super::*;

fn service() -> Which {
    Which::Name("web".to_owned())
}

fn add(address: &str) -> Edit {
    let keys = serde_json::json!({ "address": address });
    Edit::AddBackend { service: service(), keys: keys.as_object().unwrap().clone() }
}

fn delete(address: &str) -> Edit {
    Edit::DeleteBackend { service: service(), backend: address.parse().unwrap() }
}

fn kind(error: RequestError) -> EditKind {
    match error {
        RequestError::Edit { kind, .. } => kind,
        other => panic!("{other}"),
    }
}

/// A daemon, and a door to it.
fn start() -> (Running, Socket) {
    let daemon = Running::start();
    daemon.ready();
    let socket = Socket::new(&daemon.socket);
    (daemon, socket)
}

fn end(daemon: Running) {
    signal("TERM");
    daemon.end().unwrap();
}

#[test]
fn an_edit_is_in_use_when_it_is_answered_and_a_refused_one_changes_nothing() {
    let _turn = turn();
    let (daemon, socket) = start();
    let edited = socket.edit(vec![add("10.0.0.3:80")], Some(1)).unwrap();
    assert_eq!((edited.version, edited.changes.len()), (2, 1));
    daemon.until("the backend", |d| d.last(1).backends.len() == 2);
    let generation = daemon.status().generation;
    let both = vec![add("10.0.0.4:80"), delete("10.0.0.99:80")];
    assert_eq!(kind(socket.edit(both, None).unwrap_err()), EditKind::NoBackend);
    let late = socket.edit(vec![add("10.0.0.4:80")], Some(1)).unwrap_err();
    assert!(late.to_string().contains("is at version 2 and not 1"), "{late}");
    let bad = socket.edit(vec![add("nonsense")], None).unwrap_err();
    assert_eq!(kind(bad), EditKind::Invalid);
    assert_eq!(daemon.status().generation, generation);
    let nothing = socket.edit(vec![add("10.0.0.4:80"), delete("10.0.0.4:80")], None).unwrap();
    assert_eq!((nothing.version, nothing.changes.len()), (2, 0), "it came and went");
    end(daemon);
}

#[test]
fn what_differs_from_the_file_is_drift_until_it_is_saved() {
    let _turn = turn();
    let (daemon, socket) = start();
    let drift = || socket.get::<Drift>("/drift").unwrap().changes.len();
    let metric =
        |n: u32| scrape(daemon.metrics.unwrap()).contains(&format!("shunt_drift_changes {n}\n"));
    assert!(drift() == 0 && metric(0));
    assert_eq!(daemon.shunt("diff"), (Ok(true), String::new()));
    socket.edit(vec![add("10.0.0.3:80")], None).unwrap();
    assert!(drift() == 1 && metric(1));
    let (same, text) = daemon.shunt("diff");
    assert_eq!((same, text.lines().count()), (Ok(false), 1));
    let (saved, _) = daemon.shunt("save");
    assert_eq!(saved, Ok(true));
    assert_eq!(std::fs::read_to_string(&daemon.file).unwrap(), format!("{FILE}10.0.0.3:80"));
    assert!(drift() == 0 && metric(0));
    std::fs::write(&daemon.file, FILE).unwrap();
    let (refused, _) = daemon.shunt("save");
    assert!(refused.unwrap_err().contains("has changed since it was read"));
    assert_eq!(daemon.shunt("save --force").0, Ok(true));
    end(daemon);
}

#[test]
fn a_reload_undoes_what_the_file_does_not_say_and_names_it() {
    let _turn = turn();
    let (daemon, socket) = start();
    socket.edit(vec![add("10.0.0.3:80")], None).unwrap();
    let (reloaded, text) = daemon.shunt("reload");
    assert_eq!(reloaded, Ok(true));
    assert!(text.contains("1 change made at runtime undone"), "{text}");
    assert!(text.contains("made at runtime, and undone:\n  service web differs"), "{text}");
    daemon.until("the backend to go", |d| d.last(1).backends.iter().flatten().count() == 1);
    assert_eq!(socket.get::<Drift>("/drift").unwrap().changes.len(), 0);
    // What the file says by now is nobody's loss.
    socket.edit(vec![add("10.0.0.3:80")], None).unwrap();
    std::fs::write(&daemon.file, format!("{FILE}10.0.0.3:80\n")).unwrap();
    let (_, text) = daemon.shunt("reload");
    assert!(text.contains("nothing differs"), "{text}");
    assert_eq!(socket.get::<Drift>("/drift").unwrap().changes.len(), 0);
    end(daemon);
}

#[test]
fn what_the_file_says_by_now_is_shown_apart_from_drift_until_it_is_read() {
    let _turn = turn();
    let (daemon, socket) = start();
    socket.edit(vec![add("10.0.0.3:80")], None).unwrap();
    std::fs::write(&daemon.file, format!("{FILE}10.0.0.4:80\n")).unwrap();
    let (same, text) = daemon.shunt("diff");
    let head =
        format!("{}: 1 change since it was read, in use after a reload:\n", daemon.file.display());
    let wanted = format!("service web differs\n{head}  service web differs\n");
    assert_eq!((same, text), (Ok(false), wanted));
    assert_eq!(socket.get::<Drift>("/drift").unwrap().on_disk, None, "it is read for who asks");
    std::fs::write(&daemon.file, "nonsense").unwrap();
    let (same, text) = daemon.shunt("diff --json");
    let drift: Drift = serde_json::from_str(&text).unwrap();
    let why = drift.on_disk.unwrap().unusable.unwrap();
    assert!(same == Ok(false) && why.ends_with(":1:1: not understood"), "{why}");
    std::fs::write(&daemon.file, format!("{FILE}10.0.0.4:80\n")).unwrap();
    daemon.shunt("reload").0.unwrap();
    assert_eq!(daemon.shunt("diff"), (Ok(true), String::new()));
    end(daemon);
}

/// A secret has another number when it is another, in both spellings of the question.
#[test]
fn a_secret_that_has_changed_on_disk_is_named_by_diff_and_not_shown() {
    let _turn = turn();
    let secret = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(secret.path(), text).unwrap();
    write("Bearer one");
    let check = format!(
        "[[service.check]]\nkind = \"http\"\nauthorization_file = \"{}\"\n",
        secret.path().display()
    );
    let configure = Configured::new(vec![], Machine::here());
    let daemon = Running::start_with(&(lives::real_file(&["10.0.0.2:80"]) + &check), configure);
    daemon.ready();
    let same_file = format!("diff {}", daemon.file.display());
    for words in ["diff", &same_file] {
        assert_eq!(daemon.shunt(words), (Ok(true), String::new()), "{words}");
    }
    write("Bearer two");
    let name = secret.path().display().to_string();
    for words in ["diff", &same_file, "diff --json", &format!("{same_file} --json")] {
        let (same, text) = daemon.shunt(words);
        assert!(same == Ok(false) && text.contains("service web: check"), "{words}: {text}");
        assert_eq!(text.matches(&format!("{name} #")).count() % 2, 0, "before and after: {text}");
        assert!(text.contains(&name) && !text.contains("Bearer"), "{words}: {text}");
    }
    daemon.shunt("reload").0.unwrap();
    for words in ["diff", &same_file] {
        assert_eq!(daemon.shunt(words), (Ok(true), String::new()), "{words}");
    }
    end(daemon);
}

/// What is answered, over the socket as any program has it.
fn told(daemon: &Running, request: &str, body: &str) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap();
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_request_that_makes_no_sense_is_refused_with_a_sentence_about_it() {
    let _turn = turn();
    let (daemon, _) = start();
    let unknown = r#"{"edits":[{"edit":"add_service","name":"x"}]}"#;
    for (request, body, code, sentence) in [
        ("POST /status", "", 405, "there is no POST /status; there are GET /,"),
        ("GET /clear", "", 405, "there is no GET /clear; there are"),
        ("GET /nothing", "", 404, "there is no such route; there are GET /,"),
        ("POST /edit", unknown, 422, "the body cannot be used: edits[0]: unknown field `name`"),
        ("POST /edit", "{", 400, "the body is no JSON: EOF while parsing"),
        ("GET /connections?limit=x", "", 400, "the query cannot be used: limit: invalid digit"),
        ("GET /connections?x=1", "", 400, "the query cannot be used: x: unknown field"),
    ] {
        let answer = told(&daemon, request, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{request}: {answer}");
        let (_, said) = answer.split_once("\r\n\r\n").unwrap();
        let said: serde_json::Value = serde_json::from_str(said).unwrap();
        assert!(said["error"].as_str().unwrap().starts_with(sentence), "{request}: {said}");
        let says_allowed = answer.to_lowercase().contains("\r\nallow: ");
        assert_eq!(says_allowed, code == 405, "{request}: {answer}");
    }
    end(daemon);
}

#[test]
fn a_body_that_is_no_edit_or_far_too_long_is_refused_with_a_sentence() {
    let _turn = turn();
    let (daemon, socket) = start();
    let keys = serde_json::json!({ "address": "x".repeat(3 << 20) });
    let long = Edit::AddBackend { service: service(), keys: keys.as_object().unwrap().clone() };
    let error = socket.edit(vec![long], None).unwrap_err();
    assert!(matches!(error, RequestError::Refused(_) | RequestError::Broken(_)), "{error}");
    let many = vec![Edit::DeleteServices; shunt::control::edit::EDITS_MAX + 1];
    let error = socket.edit(many, None).unwrap_err().to_string();
    assert!(error.contains("at most 4096 edits"), "{error}");
    assert!(daemon.status().accepting);
    end(daemon);
}
