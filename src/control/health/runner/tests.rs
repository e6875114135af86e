//! The thread as a whole: verdicts come, checks that are stopped end, and many are not late.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::super::check::Talk;
use super::*;

fn tcp(interval_ms: u32) -> Check {
    Check {
        probe: Probe::Tcp(Talk::default()),
        address: None,
        port: None,
        interval_ms,
        fast_interval_ms: interval_ms.min(50),
        jitter_percent: 10,
        timeout_ms: 1000,
        rise: 2,
        fall: 2,
    }
}

fn job(id: u64, check: Check, target: SocketAddr, is_up: bool) -> Job {
    let asked = Asked { service: "web".into(), backend: target, target, aim: None };
    Job { id: CheckId(id), check, asked, is_up, slot: Arc::default() }
}

fn start() -> (Runner, Arc<HealthStats>) {
    let stats = Arc::<HealthStats>::default();
    let limits = Limits { sockets: 4096, scripts: 4 };
    (Runner::start(Arc::clone(&stats), Arc::default(), limits).unwrap(), stats)
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn a_verdict_changes_when_a_listener_goes_and_when_it_is_back() {
    let (mut runner, _) = start();
    let (listener, address) = listen();
    let first = job(7, tcp(50), address, false);
    let slot = Arc::clone(&first.slot);
    runner.order(Order::Start(Box::new(first)));
    let next = async |runner: &mut Runner| {
        let patience = Duration::from_secs(20);
        timeout(patience, runner.changes.recv()).await.unwrap().unwrap()
    };
    assert_eq!(next(&mut runner).await, Change { id: CheckId(7), is_up: true });
    assert!(slot.seen().last.unwrap().1.is_ok());
    drop(listener);
    assert_eq!(next(&mut runner).await, Change { id: CheckId(7), is_up: false });
    assert_eq!(slot.seen().last.unwrap().1, Err(Failure::Refused));
    let _back = TcpListener::bind(address).unwrap();
    assert_eq!(next(&mut runner).await, Change { id: CheckId(7), is_up: true });
}

#[tokio::test]
async fn a_check_that_is_stopped_asks_no_more() {
    let (runner, stats) = start();
    let (_listener, address) = listen();
    runner.order(Order::Start(Box::new(job(1, tcp(50), address, false))));
    let passed = || stats.results[CheckResult::Passed as usize].get();
    let deadline = Instant::now() + Duration::from_secs(20);
    while passed() == 0 {
        assert!(Instant::now() < deadline, "no check was run");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    runner.order(Order::Stop(CheckId(1)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = passed();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(passed(), before);
}

#[tokio::test]
async fn a_fault_in_asking_is_that_checks_failure_and_no_more() {
    let faulty = caught(async {
        tokio::task::yield_now().await;
        panic!("as a library might")
    });
    assert!(matches!(faulty.await, Err(Failure::NotRun(why)) if why.starts_with("a fault of")));
    assert_eq!(caught(async { Ok(()) }).await, Ok(()));
}

/// Longest that a sleep of our own was late: the machine's doing, and no check's.
async fn sleep_for(time: Duration) -> Duration {
    const LOOK: Duration = Duration::from_millis(100);
    let (begun, mut late) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < time {
        let looked = Instant::now();
        tokio::time::sleep(LOOK).await;
        late += looked.elapsed().saturating_sub(LOOK);
    }
    late
}

/// A tenth of what is promised of one core (`shunt-bench checks` measures that), so that it holds beside other tests too.
/// Held to the time that has passed, but for that in which we did not get the CPU either.
#[tokio::test]
async fn hundreds_of_checks_keep_their_time() {
    const CHECKS: u64 = 250;
    let interval = Duration::from_secs(1);
    let (runner, stats) = start();
    let (listener, address) = listen();
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let begun = Instant::now();
    for id in 0..CHECKS {
        runner.order(Order::Start(Box::new(job(id, tcp(1000), address, true))));
    }
    let late = sleep_for(interval * 5).await;
    let count = |it: CheckResult| stats.results[it as usize].get();
    assert_eq!(count(CheckResult::Failed) + count(CheckResult::NotRun), 0);
    // With jitter an interval is a twentieth longer at most; the first turn comes within one, the last may be under way.
    let passed = begun.elapsed().saturating_sub(late);
    let turns = (passed.as_millis() / (interval.as_millis() * 21 / 20)).saturating_sub(1);
    let done = u128::from(count(CheckResult::Passed));
    assert!(done >= u128::from(CHECKS) * turns, "{done} of {CHECKS} checks, {turns} turns each");
}

/// What the documents say of a machine that has lost power: each check takes all of its time.
#[tokio::test]
async fn who_says_nothing_is_down_after_as_many_timeouts_as_failures_are_wanted_and_no_sooner() {
    let nobody = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let talk = Talk { expect: Some(vec![]), ..Talk::default() };
    let check = Check { probe: Probe::Udp(talk), timeout_ms: 200, fall: 3, ..tcp(100) };
    let (mut runner, stats) = start();
    let begun = Instant::now();
    runner.order(Order::Start(Box::new(job(1, check, nobody.local_addr().unwrap(), true))));
    let change = timeout(Duration::from_secs(60), runner.changes.recv()).await.unwrap().unwrap();
    assert_eq!((change.is_up, stats.results[CheckResult::TimedOut as usize].get()), (false, 3));
    assert!(begun.elapsed() >= Duration::from_millis(600), "{:?}", begun.elapsed());
}
