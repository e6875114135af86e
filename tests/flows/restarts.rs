//! A SYN that meets a connection: starts it over, or goes where that went (IPVS: `conn_reuse_mode`).

use shunt::dataplane::conn::state::State;
use shunt::dataplane::conn::state::flags::{ACK, FIN, RST, SYN};
use shunt::dataplane::persistence::Persistence;
use shunt::dataplane::snapshot::{Encapsulation, Mode, Restarts, Snapshot};

use crate::life::{answer, from_client};
use crate::packets::CLIENT;
use crate::world::{Plan, Sent, World};

/// Who says what before the second SYN, and the state it leads to.
type History = (&'static [(bool, u8)], State);

const HALF_OPEN: History = (&[(true, SYN)], State::SynRecv);
const OPEN: History = (&[(true, SYN), (true, ACK)], State::Established);
const CLIENT_CLOSED: History = (&[(true, SYN), (true, ACK), (true, FIN | ACK)], State::CloseWait);
const SERVER_CLOSED: History = (&[(true, SYN), (true, ACK), (false, FIN | ACK)], State::FinWait);
const BOTH_CLOSED: History =
    (&[(true, SYN), (true, ACK), (true, FIN | ACK), (false, FIN | ACK)], State::TimeWait);
const RESET: History = (&[(true, SYN), (true, ACK), (true, RST)], State::Close);
/// In `dr` and `tunnel`.
const CLOSED_UNSEEN: History = (&[(true, SYN), (true, ACK), (true, FIN | ACK)], State::FinWait);

/// The backend of a packet that left.
fn host(sent: &Sent) -> u8 {
    sent.frame[5]
}

/// Plays a history, publishes `edit`, and sends another SYN: is it started over?
fn starts_over(
    mode: Mode,
    (steps, state): History,
    workers: u8,
    edit: impl Fn(&mut Snapshot),
) -> bool {
    let mut world = World::new(Plan { modes: vec![mode; 3], workers, ..Plan::default() });
    world.publish(&edit);
    let mut there = None;
    for (from_the_client, flags) in steps {
        if *from_the_client {
            there = Some(world.one(0, 0, &from_client(CLIENT, *flags)));
        } else {
            world.one(0, 1, &answer(there.as_ref().unwrap(), *flags));
        }
    }
    assert_eq!(world.list(4)[0].state, state);
    let again = world.one(usize::from(workers) - 1, 0, &from_client(CLIENT, SYN));
    assert_eq!((world.connections(), world.drops()), ([1; 4], vec![]), "no stall, no second one");
    host(&again) != host(&there.unwrap())
}

#[test]
fn each_mode_starts_over_what_it_says() {
    use Restarts::{Closed, Closing, Never};
    let ipip = Mode::Tunnel(Encapsulation::Ipip);
    let both: &[Mode] = &[Mode::Fullnat, Mode::Nat];
    let direct: &[Mode] = &[Mode::Dr, ipip];
    let rows: &[(&[Mode], History, &[Restarts])] = &[
        (both, HALF_OPEN, &[]),
        (both, OPEN, &[]),
        (both, CLIENT_CLOSED, &[]),
        (both, SERVER_CLOSED, &[]),
        (both, BOTH_CLOSED, &[Closed, Closing]),
        (both, RESET, &[Closed, Closing]),
        (direct, HALF_OPEN, &[]),
        (direct, OPEN, &[]),
        (direct, CLOSED_UNSEEN, &[Closing]),
        (direct, RESET, &[Closed, Closing]),
    ];
    for (modes, history, which) in rows {
        for (mode, workers) in modes.iter().flat_map(|mode| [1, 2, 4].map(|n| (*mode, n))) {
            for restarts in [Never, Closed, Closing] {
                let got = starts_over(mode, *history, workers, |snapshot| {
                    snapshot.restarts = restarts;
                });
                assert_eq!(got, which.contains(&restarts), "{mode:?} {history:?} {restarts:?}");
            }
        }
    }
}

/// At weight 0 nobody new: what waits for an answer there starts over elsewhere, what talks goes on.
#[test]
fn at_weight_zero_what_is_not_under_way_starts_over_whatever_the_mode_says() {
    for (history, starts) in [
        (HALF_OPEN, true),
        (OPEN, false),
        (CLIENT_CLOSED, false),
        (SERVER_CLOSED, false),
        (BOTH_CLOSED, true),
        (RESET, true),
    ] {
        for restarts in [Restarts::Never, Restarts::Closed] {
            let mut world = World::new(Plan::default());
            let terms = |snapshot: &mut Snapshot| snapshot.restarts = restarts;
            world.publish(terms);
            let mut there = None;
            for (from_the_client, flags) in history.0 {
                if *from_the_client {
                    there = Some(world.one(0, 0, &from_client(CLIENT, *flags)));
                } else {
                    world.one(0, 1, &answer(there.as_ref().unwrap(), *flags));
                }
            }
            let chosen = host(&there.unwrap());
            world.plan.weights[usize::from(chosen - 11)] = Some(0);
            world.publish(terms);
            let again = world.one(0, 0, &from_client(CLIENT, SYN));
            assert_eq!(host(&again) != chosen, starts, "{history:?} {restarts:?}");
        }
    }
}

/// Who is kept at a drained backend on purpose is not sent away from it by a SYN that comes twice.
#[test]
fn clients_kept_at_a_drained_backend_stay_with_their_connection() {
    let mut world = World::new(Plan { weights: vec![Some(1)], ..Plan::default() });
    let persistence = Persistence { timeout_ms: 360_000, prefix: 32, to_drained: true, epoch: 1 };
    let terms = |snapshot: &mut Snapshot| {
        for service in snapshot.services.iter_mut().flatten() {
            service.persistence = Some(persistence);
        }
    };
    world.publish(terms);
    let first = world.one(0, 0, &from_client(CLIENT, SYN));
    world.plan.weights = vec![Some(0)];
    world.publish(terms);
    let again = world.one(0, 0, &from_client(CLIENT, SYN));
    assert_eq!(again.frame[26..38], first.frame[26..38], "the same local port");
}
