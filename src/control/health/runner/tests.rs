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

/// How often [`many`] looks.
const LOOK: Duration = Duration::from_millis(100);

/// Runs so many checks for a while; how many have passed, and how late the latest was, beyond what a sleep of
/// our own was late meanwhile: that is the machine's doing.
async fn many(checks: u64, interval_ms: u32, seconds: u64) -> (u64, Duration) {
    let (runner, stats) = start();
    let (listener, address) = listen();
    std::thread::spawn(move || while listener.accept().is_ok() {});
    for id in 0..checks {
        runner.order(Order::Start(Box::new(job(id, tcp(interval_ms), address, true))));
    }
    let (mut worst, mut own) = (0, Duration::ZERO);
    for _ in 0..seconds * 10 {
        let looked = Instant::now();
        tokio::time::sleep(LOOK).await;
        own = own.max(looked.elapsed().saturating_sub(LOOK));
        worst = worst.max(stats.lateness_us.get());
    }
    let count = |it: CheckResult| stats.results[it as usize].get();
    assert_eq!(count(CheckResult::Failed) + count(CheckResult::NotRun), 0);
    (count(CheckResult::Passed), Duration::from_micros(worst).saturating_sub(own))
}

/// A tenth of what is promised of one core (`shunt-bench checks` measures that), so that it holds beside other tests too.
#[tokio::test]
async fn hundreds_of_checks_keep_their_time() {
    let (passed, late) = many(500, 2000, 4).await;
    assert!(passed >= 500, "each at least once: {passed}");
    assert!(late < Duration::from_secs(2), "one missed its turn: it began {late:?} late");
}
