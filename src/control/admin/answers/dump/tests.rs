//! Dumps over a model of workers: tables are vectors, pages are cut as a worker would.

use proptest::prelude::*;

use super::*;
use crate::dataplane::conn::state::State;
use crate::dataplane::mailbox::mailbox;
use crate::dataplane::orders::{Answer, Order, WorkerEnd};
use crate::dataplane::snapshot::{Protocol, ServiceAddress};
use crate::ids::BackendId;
use crate::stats::collect::{Names, ServiceEntry, Sources};
use crate::stats::slow::StaticFacts;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// A worker's table: `Some(n)` is a connection of client `10.0.0.0 + n`.
type Table = Vec<Option<u32>>;

fn connection(worker: u8, n: u32) -> ConnectionView {
    let address = |base: u32, port| SocketAddr::from((Ipv4Addr::from_bits(base), port));
    ConnectionView {
        worker: WorkerId(worker),
        protocol: Protocol::Tcp,
        state: State::Established,
        client: address(0x0a00_0000 + n, 1000),
        vip: address(0xc000_0201, 80),
        local: address(0x0b00_0001, 2000),
        backend: address(0x0b00_0002 + n % 2, 8080),
        service_id: ServiceId(0),
        backend_id: BackendId(n % 2),
        idle_ms: 1,
        expires_ms: 2,
    }
}

fn number(client: SocketAddr) -> u32 {
    let IpAddr::V4(address) = client.ip() else { panic!("{client} is none of the model's") };
    address.to_bits()
}

/// Templates all workers have: every third place of these.
fn templates() -> Table {
    (1000..1300).map(|n| (n % 3 == 0).then_some(n)).collect()
}

fn answer(worker: u8, end: &mut WorkerEnd, table: &Table) {
    while let Some(order) = end.take() {
        let Order::Dump(mut page) = order else { panic!("only dumps are ordered here") };
        let templates = templates();
        let table = if page.of == Rows::Templates { &templates } else { table };
        let mut looked = 0;
        while let Some(slot) = table.get(page.cursor as usize) {
            if looked == Page::SLOTS_MAX || page.rows.len() == page.rows.capacity() {
                break;
            }
            page.rows.extend(slot.map(|n| connection(worker, n)));
            page.cursor += 1;
            looked += 1;
        }
        page.done = page.cursor as usize >= table.len();
        end.answer(Answer::Page(page));
    }
}

fn directory() -> Arc<Directory> {
    let sources = Sources::new(StaticFacts::default(), vec![], vec![]);
    let service = ServiceEntry {
        id: ServiceId(0),
        name: "web".into(),
        protocol: Protocol::Tcp,
        address: ServiceAddress::one(IpAddr::from([192, 0, 2, 1]), 80),
        removed: false,
    };
    sources.rename(Names { services: vec![service], backends: vec![] });
    sources.directory()
}

/// Runs one request to its end.
fn ask(
    publisher: &mut Publisher,
    ends: &mut [WorkerEnd],
    tables: &[Table],
    parameters: &Parameters,
) -> Result<view::Connections, DumpError> {
    let query = Query::parse(parameters)?;
    let directory = directory();
    let mut dumps = Dumps::default();
    let (reply, mut answered) = oneshot::channel();
    dumps.begin(query, &directory, reply);
    for _ in 0..100_000 {
        publisher.poll();
        dumps.poll(publisher, tables.len(), &directory);
        if let Ok(outcome) = answered.try_recv() {
            return outcome;
        }
        for (id, (end, table)) in (0u8..).zip(ends.iter_mut().zip(tables)) {
            answer(id, end, table);
        }
    }
    panic!("a request ends");
}

fn workers(count: usize) -> (Publisher, Vec<WorkerEnd>) {
    let (controls, ends) = (0..count).map(|_| mailbox()).unzip();
    (Publisher::new(controls), ends)
}

/// Follows the cursor to the end.
fn ask_all(tables: &[Table], mut parameters: Parameters) -> Vec<view::Connection> {
    let (mut publisher, mut ends) = workers(tables.len());
    let mut all = Vec::new();
    loop {
        let page = ask(&mut publisher, &mut ends, tables, &parameters).unwrap();
        assert!(page.connections.len() <= parameters.limit.unwrap_or(LIMIT_DEFAULT));
        all.extend(page.connections);
        match page.next {
            Some(cursor) => parameters.cursor = Some(cursor),
            None => return all,
        }
    }
}

proptest! {
    #[test]
    fn every_connection_is_told_exactly_once_whatever_the_limit(
        tables in prop::collection::vec(prop::collection::vec(prop::option::of(0u32..500), 0..3000), 1..4),
        limit in 1usize..2000,
    ) {
        let mut want: Vec<_> = tables.iter().enumerate()
            .flat_map(|(worker, table)| table.iter().flatten().map(move |n| (worker, *n)))
            .collect();
        let found = ask_all(&tables, Parameters { limit: Some(limit), ..Parameters::default() });
        let mut found: Vec<_> = found.iter()
            .map(|row| (usize::from(row.worker), number(row.client) - 0x0a00_0000))
            .collect();
        want.sort_unstable();
        found.sort_unstable();
        prop_assert_eq!(found, want);
    }
}

#[test]
fn templates_come_behind_the_connections_or_alone() {
    let tables = [vec![Some(1), Some(2)], vec![Some(3)]];
    let all: Vec<_> = self::templates().into_iter().flatten().collect();
    for limit in [1, 2, 7, 1000] {
        let found = |templates| {
            let limit = Some(limit);
            let rows = ask_all(&tables, Parameters { limit, templates, ..Parameters::default() });
            rows.iter().map(|row| number(row.client) - 0x0a00_0000).collect::<Vec<_>>()
        };
        assert_eq!(found(None), [1, 2, 3]);
        assert_eq!(found(Some(Templates::Only)), all);
        assert_eq!(found(Some(Templates::Too)), [&[1, 2, 3], &all[..]].concat());
    }
}

#[test]
fn filters_keep_what_they_name() {
    let tables = [(0..100).map(Some).collect::<Table>()];
    let ask = |parameters| ask_all(&tables, parameters).len();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(ask(Parameters { client: text("10.0.0.7"), ..Parameters::default() }), 1);
    assert_eq!(ask(Parameters { client: text("10.0.0.7:1"), ..Parameters::default() }), 0);
    assert_eq!(ask(Parameters { backend: text("11.0.0.2:8080"), ..Parameters::default() }), 50);
    assert_eq!(ask(Parameters { service: text("web"), ..Parameters::default() }), 100);
}

#[test]
fn bad_parameters_are_answered_with_a_sentence() {
    let (mut publisher, mut ends) = workers(1);
    let mut refuse = |parameters| {
        ask(&mut publisher, &mut ends, &[vec![]], &parameters).unwrap_err().to_string()
    };
    let text = |text: &str| Some(text.to_owned());
    let client = refuse(Parameters { client: text("bob"), ..Parameters::default() });
    assert_eq!(
        client,
        "client `bob` is neither an address nor address:port ([address]:port for IPv6)"
    );
    let cursor = refuse(Parameters { cursor: text("x"), ..Parameters::default() });
    assert_eq!(cursor, "cursor `x` did not come from an earlier answer");
    let service = refuse(Parameters { service: text("nope"), ..Parameters::default() });
    assert!(service.starts_with("there is no service named `nope`"), "{service}");
}

#[test]
fn an_answer_to_a_request_that_gave_up_is_not_given_to_the_next() {
    let (mut publisher, mut ends) = workers(1);
    let directory = directory();
    let tables = [vec![Some(1)]];
    let mut dumps = Dumps::default();
    let (reply, _gone) = oneshot::channel();
    dumps.begin(Query { limit: 5, ..Query::default() }, &directory, reply);
    dumps.poll(&mut publisher, 1, &directory);
    // It was asked and then given up.
    dumps.jobs.clear();
    let (reply, mut answered) = oneshot::channel();
    dumps.begin(Query { limit: 5, ..Query::default() }, &directory, reply);
    for _ in 0..10 {
        dumps.poll(&mut publisher, 1, &directory);
        answer(0, &mut ends[0], &tables[0]);
        publisher.poll();
    }
    assert_eq!(answered.try_recv().unwrap().unwrap().connections.len(), 1);
}

#[test]
fn a_cursor_of_a_worker_that_does_not_exist_is_refused() {
    let mut publisher = Publisher::new(vec![]);
    let mut dumps = Dumps::default();
    let parameters = Parameters { cursor: Some("7:0".into()), ..Parameters::default() };
    let (reply, mut answered) = oneshot::channel();
    dumps.begin(Query::parse(&parameters).unwrap(), &directory(), reply);
    dumps.poll(&mut publisher, 2, &directory());
    let error = answered.try_recv().unwrap().unwrap_err().to_string();
    assert!(error.contains("there is no worker 7"), "{error}");
}

#[test]
fn a_parameter_that_does_not_exist_is_refused_by_name() {
    let uri: axum::http::Uri = "/connections?bogus=1".parse().unwrap();
    let error = axum::extract::Query::<Parameters>::try_from_uri(&uri).unwrap_err();
    assert!(error.body_text().contains("unknown field `bogus`"), "{error:?}");
}
