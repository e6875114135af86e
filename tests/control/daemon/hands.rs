//! Backends in the operator's hand: drained, weighed, told of, and left alone by the file.

use shunt::cli::request::{RequestError, Socket};
use shunt::control::admin::view::{Drift, EditKind, Hand};

use super::*;

const BOTH: &str = "2 10.0.0.100\n10.0.0.2:80\n10.0.0.3:80\n";

/// A daemon with two backends.
fn start() -> Running {
    let daemon = Running::start_with(BOTH, OneService::default());
    daemon.ready();
    daemon
}

fn end(daemon: Running) {
    signal("TERM");
    daemon.end().unwrap();
}

/// Weights as workers have them.
fn weights(daemon: &Running) -> Vec<u32> {
    daemon.last(1).backends.iter().flatten().map(|backend| backend.weight).collect()
}

/// Runs `shunt`, which is to succeed.
fn done(daemon: &Running, line: &str) -> String {
    let (outcome, text) = daemon.shunt(line);
    assert_eq!(outcome, Ok(true), "{line}: {text}");
    text
}

#[test]
fn a_drain_is_in_use_over_reloads_and_no_part_of_the_file() {
    let _turn = turn();
    let daemon = start();
    daemon.stats[0].backends[0].connections.up();
    let drained = "web 10.0.0.2:80: drained by hand, 1 connection left\n";
    assert_eq!(done(&daemon, "drain web 10.0.0.2"), drained);
    daemon.until("the drain", |d| weights(d) == [0, 1]);
    assert!(done(&daemon, "services").contains("by hand"));
    assert_eq!(daemon.shunt("diff"), (Ok(false), drained.to_owned()));
    assert!(scrape(daemon.metrics.unwrap()).contains("shunt_backends_by_hand 1\n"));

    // The file does not say it, and is not told.
    assert!(done(&daemon, "reload").contains("nothing differs; 1 backend as set by hand"));
    assert!(done(&daemon, "save").contains("saved, 0 changes"));
    assert_eq!(std::fs::read_to_string(&daemon.file).unwrap(), BOTH);
    std::fs::write(&daemon.file, format!("{BOTH}10.0.0.4:80\n")).unwrap();
    assert!(done(&daemon, "reload").contains("; 1 backend as set by hand"));
    daemon.until("the third backend", |d| weights(d) == [0, 1, 1]);

    done(&daemon, "undrain web 10.0.0.2:80");
    daemon.until("the file's weight", |d| weights(d) == [1, 1, 1]);
    assert_eq!(daemon.shunt("diff"), (Ok(true), String::new()));
    assert!(scrape(daemon.metrics.unwrap()).contains("shunt_backends_by_hand 0\n"));
    end(daemon);
}

#[test]
fn who_is_removed_and_comes_back_has_the_files_weight() {
    let _turn = turn();
    let daemon = start();
    done(&daemon, "weight web 10.0.0.3 7");
    daemon.until("the weight", |d| weights(d) == [1, 7]);
    std::fs::write(&daemon.file, FILE).unwrap();
    assert!(!done(&daemon, "reload").contains("by hand"));
    assert!(scrape(daemon.metrics.unwrap()).contains("shunt_backends_by_hand 0\n"));
    std::fs::write(&daemon.file, BOTH).unwrap();
    done(&daemon, "reload");
    daemon.until("the backend", |d| weights(d) == [1, 1]);
    end(daemon);
}

#[test]
fn at_the_deadline_what_is_left_is_ended_and_who_waits_is_told() {
    let _turn = turn();
    let daemon = start();
    (0..3).for_each(|_| daemon.stats[0].backends[0].connections.up());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| daemon.shunt("drain web 10.0.0.2 --deadline 1 --wait"));
        daemon.until("an order to clear", |d| d.cleared.load(Ordering::Relaxed) > 0);
        // As workers do that end them.
        (0..3).for_each(|_| daemon.stats[0].backends[0].connections.down());
        let (outcome, text) = waits.join().unwrap();
        assert_eq!(outcome, Ok(true), "{text}");
        let said: Vec<_> = text.lines().collect();
        let (first, last) = (said.first().unwrap(), said.last().unwrap());
        assert!(first.contains("drained by hand, 3 connections left, ended in "), "{text}");
        assert_eq!(
            *last, "web 10.0.0.2:80: drained by hand, 0 connections left",
            "no end any more"
        );
    });
    assert_eq!(weights(&daemon), [0, 1], "it stays drained");
    end(daemon);
}

#[test]
fn who_waits_for_a_drain_that_is_taken_back_is_told_so() {
    let _turn = turn();
    let daemon = start();
    daemon.stats[0].backends[0].connections.up();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| daemon.shunt("drain web 10.0.0.2 --wait"));
        daemon.until("the drain", |d| weights(d) == [0, 1]);
        done(&daemon, "undrain web 10.0.0.2");
        let (outcome, text) = waits.join().unwrap();
        assert_eq!(outcome, Ok(false), "{text}");
        assert!(
            text.ends_with("web 10.0.0.2:80: the file's weight again, 1 connection\n"),
            "{text}"
        );
    });
    end(daemon);
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_sentence_and_changes_nothing() {
    let _turn = turn();
    let file = format!("{BOTH}10.0.0.3:81\n");
    let daemon = Running::start_with(&file, OneService::default());
    daemon.ready();
    let generation = daemon.status().generation;
    for (line, sentence) in [
        ("drain wob 10.0.0.2", "there is no service `wob`"),
        ("drain web 10.0.0.9", "service `web` has no backend 10.0.0.9"),
        ("drain web ten", "neither an address"),
        ("drain web 10.0.0.3", "several backends of `web` are 10.0.0.3: say the port too"),
        ("drain web 10.0.0.2 --deadline 200h", "expected at most 604800 s"),
        ("undrain web 10.0.0.2", "nothing is set by hand for backend 10.0.0.2:80"),
    ] {
        let (outcome, _) = daemon.shunt(line);
        let said = outcome.unwrap_err();
        assert!(said.contains(sentence), "{line}: {said}");
    }
    let (service, backend) = ("web".to_owned(), "10.0.0.2".to_owned());
    let heavy = Hand::Weight { service, backend, weight: 65_536 };
    let socket = Socket::new(&daemon.socket);
    let refused = socket.hand(&heavy).unwrap_err();
    assert!(matches!(refused, RequestError::Edit { kind: EditKind::Invalid, .. }), "{refused}");
    assert_eq!(daemon.status().generation, generation);
    assert_eq!(socket.get::<Drift>("/drift").unwrap().by_hand, []);
    end(daemon);
}
