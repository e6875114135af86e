//! The mailbox under a model checker: every interleaving of a control thread and a worker, on the
//! very text of `src/dataplane/mailbox.rs`, with `loom`'s primitives in place of the real ones.
//!
//! What is checked: orders arrive once and in order; every order's answer arrives; an answer always
//! fits; what the worker sees behind the word is complete. What is not: `crossbeam`'s queue itself,
//! which is modelled as what it promises to be, a linearizable bounded queue.

#![allow(unreachable_pub, reason = "the included file is a module of the library")]

#[expect(clippy::unwrap_used, reason = "a model's lock is never poisoned")]
mod sync {
    use std::collections::VecDeque;

    pub(super) use loom::sync::Arc;
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug)]
    pub(super) struct Queue<T> {
        items: loom::sync::Mutex<VecDeque<T>>,
        capacity: usize,
    }

    impl<T> Queue<T> {
        pub(super) fn new(capacity: usize) -> Self {
            Self { items: loom::sync::Mutex::default(), capacity }
        }

        pub(super) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().unwrap();
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            Ok(())
        }

        pub(super) fn pop(&self) -> Option<T> {
            self.items.lock().unwrap().pop_front()
        }
    }
}

#[path = "../src/dataplane/mailbox.rs"]
mod mailbox;

use loom::sync::Arc;
use loom::thread;

use mailbox::{CAPACITY, WorkerEnd, mailbox};

/// Polls until `count` orders were taken, answering each with what it replaced.
fn obey(mut end: WorkerEnd<Arc<u32>, Arc<u32>>, mut current: Arc<u32>, count: usize) -> Arc<u32> {
    let mut taken = 0;
    while taken < count {
        match end.take() {
            Some(next) => {
                assert_eq!(*next, *current + 1, "orders come in order, none twice, none lost");
                end.answer(std::mem::replace(&mut current, next));
                taken += 1;
            }
            None => thread::yield_now(),
        }
    }
    current
}

#[test]
fn every_order_is_obeyed_once_and_every_retired_snapshot_comes_back() {
    loom::model(|| {
        const ORDERS: u32 = 2;
        let (mut control, worker) = mailbox();
        let thread = thread::spawn(|| obey(worker, Arc::new(0), ORDERS as usize));
        for generation in 1..=ORDERS {
            control.send(Arc::new(generation)).unwrap();
        }
        let mut retired = Vec::new();
        while retired.len() < ORDERS as usize {
            match control.answer() {
                Some(old) => retired.push(old),
                None => thread::yield_now(),
            }
        }
        let current = thread.join().unwrap();
        assert_eq!(*current, ORDERS);
        assert_eq!(retired.iter().map(|old| **old).collect::<Vec<_>>(), [0, 1]);
        // The worker freed nothing: the only reference left is the one handed back.
        assert!(retired.iter().all(|old| Arc::strong_count(old) == 1));
        assert_eq!(control.unanswered(), 0);
    });
}

#[test]
fn an_answer_always_fits_and_a_full_mailbox_gives_the_order_back() {
    loom::model(|| {
        let (mut control, mut worker) = mailbox::<u32, u32>();
        for order in 0..u32::try_from(CAPACITY).unwrap() {
            control.send(order).unwrap();
        }
        assert_eq!(control.send(99), Err(99));
        let thread = thread::spawn(move || {
            // `answer` asserts that it fits.
            (0..2).for_each(|_| worker.take().into_iter().for_each(|order| worker.answer(order)));
        });
        // Whatever the worker has done by now, an order fits exactly if an answer was read.
        let read = control.answer().is_some();
        assert_eq!(control.send(8).is_ok(), read);
        thread.join().unwrap();
    });
}

#[test]
fn a_worker_that_sees_the_word_finds_the_order() {
    loom::model(|| {
        let (mut control, mut worker) = mailbox::<u32, u32>();
        let thread = thread::spawn(move || {
            let first = worker.take();
            let second = worker.take();
            // Not yet is fine; a hole is not.
            assert!(first.is_some() || second != Some(8));
            first.into_iter().chain(second).for_each(|order| worker.answer(order));
        });
        control.send(7).unwrap();
        control.send(8).unwrap();
        thread.join().unwrap();
        assert_eq!(control.answer().unwrap_or(7), 7);
    });
}

#[test]
fn a_worker_notices_that_nobody_is_left_to_give_orders() {
    loom::model(|| {
        let (mut control, mut worker) = mailbox::<u32, u32>();
        let thread = thread::spawn(move || {
            control.send(1).unwrap();
            drop(control);
        });
        while !worker.is_abandoned() {
            thread::yield_now();
        }
        thread.join().unwrap();
        assert_eq!(worker.take(), Some(1), "what was sent before is not lost");
    });
}
