//! Orders in, answers out: how the control plane talks to a worker without ever making it wait.
//!
//! ```text
//!  control                                   worker (once a burst)
//!  push(order) ─► bounded queue ──────────►  word changed? pop one order, obey it
//!  word += 1   ─► one shared word (Release)  (Acquire)
//!  answer()    ◄─ bounded queue ◄──────────  exactly one answer per order
//! ```
//!
//! Why a word: looking costs the worker one load of a line nobody writes in the meantime. Why an
//! answer to every order: what an order replaced (an old snapshot, megabytes of it) goes back to
//! the control thread to be freed, so a worker never frees anything; and the control thread, by
//! never having more than [`CAPACITY`] orders unanswered, makes sure the answer always fits.
//!
//! The file uses only `super::sync`, so `tests/mailbox_model.rs` compiles this very text against a
//! model checker and explores its interleavings.

use super::sync::{Arc, AtomicU64, Ordering, Queue};

/// Orders that may wait for an answer at once.
pub const CAPACITY: usize = 8;

#[derive(Debug)]
struct Shared<O, A> {
    /// Orders ever sent.
    word: AtomicU64,
    orders: Queue<O>,
    answers: Queue<A>,
}

/// The control thread's end.
#[derive(Debug)]
pub struct ControlEnd<O, A> {
    shared: Arc<Shared<O, A>>,
    unanswered: usize,
}

/// The worker's end.
#[derive(Debug)]
pub struct WorkerEnd<O, A> {
    shared: Arc<Shared<O, A>>,
    /// Orders ever taken.
    taken: u64,
}

/// A connected pair of ends.
pub fn mailbox<O, A>() -> (ControlEnd<O, A>, WorkerEnd<O, A>) {
    let shared = Arc::new(Shared {
        word: AtomicU64::new(0),
        orders: Queue::new(CAPACITY),
        answers: Queue::new(CAPACITY),
    });
    let worker = WorkerEnd { shared: Arc::clone(&shared), taken: 0 };
    (ControlEnd { shared, unanswered: 0 }, worker)
}

impl<O, A> ControlEnd<O, A> {
    /// Sends an order, or gives it back if [`CAPACITY`] orders wait for their answers: read
    /// [`ControlEnd::answer`] and try again.
    pub fn send(&mut self, order: O) -> Result<(), O> {
        if self.unanswered >= CAPACITY {
            return Err(order);
        }
        self.shared.orders.push(order)?;
        self.unanswered += 1;
        self.shared.word.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The oldest answer not yet read.
    pub fn answer(&mut self) -> Option<A> {
        let answer = self.shared.answers.pop()?;
        self.unanswered -= 1;
        Some(answer)
    }

    /// Orders sent whose answer has not been read.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }
}

impl<O, A> WorkerEnd<O, A> {
    /// The next order, if there is one. Each one taken must be answered once.
    #[inline]
    pub fn take(&mut self) -> Option<O> {
        if self.shared.word.load(Ordering::Acquire) == self.taken {
            return None;
        }
        self.take_waiting()
    }

    /// Has the control end gone? Then no order will ever come.
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    #[cold]
    fn take_waiting(&mut self) -> Option<O> {
        let order = self.shared.orders.pop()?;
        self.taken += 1;
        Some(order)
    }

    /// Answers an order taken before.
    pub fn answer(&mut self, answer: A) {
        let fits = self.shared.answers.push(answer).is_ok();
        debug_assert!(fits, "the control end never has more than CAPACITY orders unanswered");
    }
}
