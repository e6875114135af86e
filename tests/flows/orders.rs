//! What a control plane orders of a world's workers, and what they answer.

use std::sync::Arc;

use shunt::dataplane::capture::Capture;
use shunt::dataplane::clearing::Clearing;
use shunt::dataplane::explain::{Find, Flow};
use shunt::dataplane::orders::{Answer, ConnectionView, ControlEnd, Order, Page, Rows};
use shunt::dataplane::trace::Trace;
use shunt::ids::BackendId;

use super::{Sent, World};

impl World {
    /// All connections, asked for a page of `rows` at a time.
    pub(crate) fn list(&mut self, rows: usize) -> Vec<ConnectionView> {
        let mut all = vec![];
        for worker in 0..self.controls.len() {
            all.extend(self.pages(worker, Rows::Connections, rows));
        }
        all
    }

    /// Which clients persistence sends where, as a worker lists it, a page of `rows` at a time.
    pub(crate) fn list_templates(&mut self, worker: usize, rows: usize) -> Vec<ConnectionView> {
        self.pages(worker, Rows::Templates, rows)
    }

    fn pages(&mut self, worker: usize, of: Rows, rows: usize) -> Vec<ConnectionView> {
        let (mut all, mut page) = (vec![], Page::default());
        while !page.done {
            let (cursor, rows) = (page.cursor, Vec::with_capacity(rows));
            page = self.turn(worker, Page { of, cursor, rows, ..Page::default() });
            all.append(&mut page.rows);
        }
        all
    }

    /// One poll of a worker, with an order for this page and whatever has arrived.
    pub(crate) fn turn(&mut self, worker: usize, page: Page) -> Page {
        self.controls[worker].send(Order::Dump(page)).unwrap();
        self.poll_one(worker);
        match self.controls[worker].answer() {
            Some(Answer::Page(page)) => page,
            other => panic!("a dump is answered in the poll that takes it, not by {other:?}"),
        }
    }

    /// Has all workers end the connections of these backends: how many there were, and what left.
    pub(crate) fn clear(&mut self, backends: &[BackendId]) -> (u64, Vec<Sent>) {
        for control in &mut self.controls {
            let order = Clearing::of(backends.iter().copied());
            assert!(control.send(Order::Clear(order)).is_ok(), "there is room");
        }
        self.poll();
        self.wait(3);
        let answer = |control: &mut ControlEnd| match control.answer() {
            Some(Answer::Cleared(order)) => order.ended,
            other => panic!("an order to clear is answered when it is done, not by {other:?}"),
        };
        (self.controls.iter_mut().map(answer).sum(), self.sent())
    }

    /// Sends the snapshot of the plan to worker 0, to be taken at its next poll.
    pub(crate) fn order_publish(&mut self) {
        let snapshot = Arc::new(self.snapshot(|_| {}));
        self.controls[0].send(Order::Publish(snapshot)).unwrap();
    }

    /// Asks worker 0 for a page of its connections.
    pub(crate) fn order_dump(&mut self, rows: usize) {
        let page = Page { rows: Vec::with_capacity(rows), ..Page::default() };
        self.controls[0].send(Order::Dump(page)).unwrap();
    }

    /// Has a worker capture from now on, or end it; was there a capture before?
    pub(crate) fn order_capture(&mut self, worker: usize, part: Option<Capture>) -> bool {
        self.controls[worker].send(Order::Capture(part.map(Box::new))).unwrap();
        self.poll();
        match self.controls[worker].answer() {
            Some(Answer::Capture(before)) => before.is_some(),
            other => panic!("expected the capture before, not {other:?}"),
        }
    }

    /// Has a worker follow a flow from now on, or end that; was one followed before?
    pub(crate) fn order_trace(&mut self, worker: usize, part: Option<Trace>) -> bool {
        self.controls[worker].send(Order::Trace(part.map(Box::new))).unwrap();
        self.poll();
        match self.controls[worker].answer() {
            Some(Answer::Trace(before)) => before.is_some(),
            other => panic!("expected what was followed before, not {other:?}"),
        }
    }

    /// What a worker knows of a flow.
    pub(crate) fn find(&mut self, worker: usize, flow: Flow) -> Find {
        self.controls[worker].send(Order::Find(Box::new(Find::new(flow)))).unwrap();
        self.poll();
        match self.controls[worker].answer() {
            Some(Answer::Found(find)) => *find,
            other => panic!("expected what it knows, not {other:?}"),
        }
    }

    /// Answers of worker 0 not read yet.
    pub(crate) fn answers(&mut self) -> usize {
        std::iter::from_fn(|| self.controls[0].answer()).count()
    }
}
