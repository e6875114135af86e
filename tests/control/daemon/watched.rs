//! `GET /watch` and `shunt watch`: what happens is told once, in order, to everybody who watches.

use std::io::BufRead;

use shunt::cli::request::Socket;
use shunt::control::admin::answers::events::{Event, WATCHERS_MAX, What};

use super::*;

/// Lines of a watch as they come.
struct Watch(std::io::Lines<std::io::BufReader<std::os::unix::net::UnixStream>>);

impl Watch {
    fn begin(daemon: &Running) -> Self {
        let mut stream = std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET /watch HTTP/1.0\r\n\r\n").unwrap();
        let mut lines = std::io::BufReader::new(stream).lines();
        let head: Vec<_> =
            lines.by_ref().map(Result::unwrap).take_while(|it| !it.is_empty()).collect();
        assert!(head[0].starts_with("HTTP/1.0 200"), "{head:?}");
        assert!(head.iter().any(|it| it == "content-type: application/x-ndjson"), "{head:?}");
        Self(lines)
    }

    /// The next event that is no sign of life.
    fn next(&mut self) -> Event {
        loop {
            let line = self.0.next().unwrap().unwrap();
            let event: Event = serde_json::from_str(&line).unwrap();
            if event.what != What::Still {
                return event;
            }
        }
    }
}

fn delete(address: &str) -> Edit {
    let service = shunt::control::edit::Which::Name("web".to_owned());
    Edit::DeleteBackend { service, backend: address.parse().unwrap() }
}

#[test]
fn what_happens_is_told_in_order_to_everybody_who_watches() {
    let _turn = turn();
    let daemon = Running::start();
    daemon.ready();
    // Its next hop stays unknown: nobody answers here.
    daemon.until("the view", |d| !d.status().next_hops.unanswered.is_empty());
    let socket = Socket::new(&daemon.socket);
    let (mut one, mut two) = (Watch::begin(&daemon), Watch::begin(&daemon));
    assert!(matches!(one.next().what, What::Watching { version: 1, .. }));
    two.next();

    // A backend is deleted while a connection to it is left, which ends a while later.
    daemon.stats[0].backends[0].connections.up();
    socket.edit(vec![delete("10.0.0.2:80")], None).unwrap();
    let first = one.next();
    assert!(matches!(first.what, What::Edited { version: 2, .. }), "{first:?}");
    assert_eq!(one.next().what, What::DriftAppeared { differences: 1 });
    std::thread::sleep(Duration::from_millis(1500));
    daemon.stats[0].backends[0].connections.down();
    let backend = "10.0.0.2:80".parse().unwrap();
    assert_eq!(one.next().what, What::Drained { service: "web".into(), backend });

    daemon.namespace.ip("link set tw0 down");
    assert_eq!(one.next().what, What::TapDown { port: "port0".into() });
    daemon.namespace.ip("link set tw0 up");
    assert_eq!(one.next().what, What::TapUp { port: "port0".into() });

    std::fs::write(&daemon.file, "nonsense").unwrap();
    let (_, told) = daemon.shunt("reload");
    assert!(told.contains("not understood"), "{told}");
    let What::Reload { result, message, .. } = one.next().what else { panic!("a reload") };
    assert_eq!(result, ReloadResult::Invalid);
    assert!(message.contains("not understood"), "{message}");

    daemon.moving.store(false, Ordering::Relaxed);
    let stalled: Vec<_> = (0..2).map(|_| one.next().what).collect();
    assert_eq!(stalled, [0, 1].map(|worker| What::WorkerStalled { worker }));
    daemon.moving.store(true, Ordering::Relaxed);
    let moving: Vec<_> = (0..2).map(|_| one.next().what).collect();
    assert_eq!(moving, [0, 1].map(|worker| What::WorkerMoves { worker }));

    signal("TERM");
    let last = one.next();
    assert_eq!(last.what, What::Ending { connections: 0 });
    let numbers: Vec<_> = (first.number..=last.number).collect();
    let seen: Vec<_> = numbers.iter().map(|_| two.next().number).collect();
    assert_eq!(seen, numbers, "the other has seen each, and once");
    daemon.end().unwrap();
}

#[test]
fn shunt_watch_prints_lines_and_too_many_watchers_are_refused() {
    let _turn = turn();
    let daemon = Running::start();
    daemon.ready();
    let watches: Vec<_> = (1..WATCHERS_MAX).map(|_| Watch::begin(&daemon)).collect();
    let text = std::thread::scope(|scope| {
        let watching = scope.spawn(|| daemon.shunt("watch --count 1"));
        let all = format!("shunt_watchers {WATCHERS_MAX}\n");
        daemon.until("all of them", |d| scrape(d.metrics.unwrap()).contains(&all));
        let refused = daemon.shunt("watch").0.unwrap_err();
        assert!(refused.contains("16 are watching already"), "{refused}");
        std::fs::write(&daemon.file, "nonsense").unwrap();
        daemon.shunt("reload").0.unwrap();
        watching.join().unwrap()
    });
    assert_eq!(text.0, Ok(true));
    let lines: Vec<_> = text.1.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(lines[0], "watching; configuration version 1");
    assert!(lines[1].starts_with("reload invalid: ") && lines.len() == 2, "{lines:?}");
    drop(watches);
    daemon
        .until("them to be missed", |d| scrape(d.metrics.unwrap()).contains("shunt_watchers 0\n"));
    signal("TERM");
    daemon.end().unwrap();
}
