//! Snapshots out, retired snapshots back: the control thread's side of all mailboxes.
//!
//! Never waits. A worker whose mailbox is full keeps only the newest snapshot pending here: the
//! ones between were never seen by it and are simply freed. At most one page of a dump is asked of
//! a worker at a time, so dumps can never fill a mailbox and delay a publication.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::dataplane::capture::Capture;
use crate::dataplane::clearing::Clearing;
use crate::dataplane::explain::Find;
use crate::dataplane::orders::{Answer, ControlEnd, Order, Page};
use crate::dataplane::snapshot::Snapshot;
use crate::dataplane::trace::Trace;
use crate::ids::WorkerId;

/// One worker's mailbox and what waits for room in it.
#[derive(Debug)]
struct Post {
    mailbox: ControlEnd,
    pending: Option<Arc<Snapshot>>,
    dumping: bool,
    clearing: bool,
    stop: Stop,
}

/// How far a worker's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    Wanted,
    Ordered,
    Done,
}

/// An order that a worker did not get: it has to be given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent;

/// All workers' mailboxes.
#[derive(Debug)]
pub struct Publisher {
    posts: Vec<Post>,
    pages: VecDeque<(WorkerId, Page)>,
    cleared: VecDeque<(WorkerId, Clearing)>,
    found: VecDeque<(WorkerId, Box<Find>)>,
}

impl Publisher {
    /// A publisher to these workers, in worker order.
    pub fn new(mailboxes: Vec<ControlEnd>) -> Self {
        let post = |mailbox| Post {
            mailbox,
            pending: None,
            dumping: false,
            clearing: false,
            stop: Stop::No,
        };
        let posts = mailboxes.into_iter().map(post).collect();
        Self { posts, pages: VecDeque::new(), cleared: VecDeque::new(), found: VecDeque::new() }
    }

    /// Gives every worker this snapshot, now or as soon as there is room.
    pub fn publish(&mut self, snapshot: &Arc<Snapshot>) {
        for post in &mut self.posts {
            post.pending = Some(Arc::clone(snapshot));
        }
        self.poll();
    }

    /// Asks a worker for a page. Gives it back if that worker still fills another, or has no room.
    pub fn dump(&mut self, worker: WorkerId, page: Page) -> Result<(), Page> {
        let Some(post) = self.posts.get_mut(worker.index()) else { return Err(page) };
        if post.dumping || post.stop != Stop::No {
            return Err(page);
        }
        post.mailbox.send(Order::Dump(page)).map_err(|order| match order {
            Order::Dump(page) => page,
            _ => Page::default(),
        })?;
        post.dumping = true;
        Ok(())
    }

    /// Has a worker end connections. An error if it is at that already, or has no room for orders.
    pub fn clear(&mut self, worker: WorkerId, order: Clearing) -> Result<(), Unsent> {
        let post = self.posts.get_mut(worker.index()).ok_or(Unsent)?;
        if post.clearing || post.stop != Stop::No {
            return Err(Unsent);
        }
        post.mailbox.send(Order::Clear(order)).map_err(|_| Unsent)?;
        post.clearing = true;
        Ok(())
    }

    /// Has a worker follow a flow from now on, or none; as [`Publisher::capture`].
    pub fn trace(
        &mut self,
        worker: WorkerId,
        part: Option<Box<Trace>>,
    ) -> Result<(), Option<Box<Trace>>> {
        let Some(post) = self.posts.get_mut(worker.index()) else { return Ok(()) };
        if post.stop != Stop::No {
            return Ok(());
        }
        post.mailbox.send(Order::Trace(part)).map_err(|order| match order {
            Order::Trace(part) => part,
            _ => None,
        })
    }

    /// Asks a worker for a flow. An error if it has no room for orders, or is ending.
    pub fn find(&mut self, worker: WorkerId, find: Box<Find>) -> Result<(), Unsent> {
        let post = self.posts.get_mut(worker.index()).ok_or(Unsent)?;
        if post.stop != Stop::No {
            return Err(Unsent);
        }
        post.mailbox.send(Order::Find(find)).map_err(|_| Unsent)
    }

    /// What a worker knows of a flow, if an answer came back.
    pub fn found(&mut self) -> Option<(WorkerId, Box<Find>)> {
        self.found.pop_front()
    }

    /// Has a worker copy frames from now on, or none. Gives back what it did not get: it has no room for
    /// orders. One that is ending needs no orders.
    pub fn capture(
        &mut self,
        worker: WorkerId,
        part: Option<Box<Capture>>,
    ) -> Result<(), Option<Box<Capture>>> {
        let Some(post) = self.posts.get_mut(worker.index()) else { return Ok(()) };
        if post.stop != Stop::No {
            return Ok(());
        }
        post.mailbox.send(Order::Capture(part)).map_err(|order| match order {
            Order::Capture(part) => part,
            _ => None,
        })
    }

    /// Does any worker end connections, as far as it has not answered?
    pub fn is_clearing(&self) -> bool {
        self.posts.iter().any(|post| post.clearing)
    }

    /// What a worker has ended, if an answer came back.
    pub fn cleared(&mut self) -> Option<(WorkerId, Clearing)> {
        self.cleared.pop_front()
    }

    /// Tells every worker to leave its loop.
    pub fn stop(&mut self) {
        for post in self.posts.iter_mut().filter(|post| post.stop == Stop::No) {
            post.stop = Stop::Wanted;
        }
        self.poll();
    }

    /// Have all workers left their loops?
    pub fn stopped(&self) -> bool {
        self.posts.iter().all(|post| post.stop == Stop::Done)
    }

    /// Workers that have not left their loops.
    pub fn running(&self) -> Vec<WorkerId> {
        let running = |(id, post): (u8, &Post)| (post.stop != Stop::Done).then_some(WorkerId(id));
        (0u8..).zip(&self.posts).filter_map(running).collect()
    }

    /// A filled page, if one came back.
    pub fn page(&mut self) -> Option<(WorkerId, Page)> {
        self.pages.pop_front()
    }

    /// Is there anything to poll for?
    pub fn busy(&self) -> bool {
        self.posts.iter().any(|post| post.mailbox.unanswered() > 0 || post.pending.is_some())
    }

    /// Reads answers, frees what came back, and sends what had to wait.
    pub fn poll(&mut self) {
        for (id, post) in (0u8..).zip(&mut self.posts) {
            while let Some(answer) = post.mailbox.answer() {
                match answer {
                    Answer::Retired(snapshot) => drop(snapshot),
                    Answer::Page(page) => {
                        post.dumping = false;
                        self.pages.push_back((WorkerId(id), page));
                    }
                    Answer::Cleared(order) => {
                        post.clearing = false;
                        self.cleared.push_back((WorkerId(id), order));
                    }
                    Answer::Capture(part) => drop(part),
                    Answer::Trace(part) => drop(part),
                    Answer::Found(find) => self.found.push_back((WorkerId(id), find)),
                    Answer::Stopped => post.stop = Stop::Done,
                }
            }
            post.send_pending();
        }
    }
}

impl Post {
    fn send_pending(&mut self) {
        if let Some(snapshot) = self.pending.take()
            && let Err(Order::Publish(back)) = self.mailbox.send(Order::Publish(snapshot))
        {
            self.pending = Some(back);
        }
        if self.stop == Stop::Wanted && self.mailbox.send(Order::Stop).is_ok() {
            self.stop = Stop::Ordered;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::mailbox::{CAPACITY, mailbox};
    use crate::dataplane::orders::WorkerEnd;

    fn pair() -> (Publisher, WorkerEnd) {
        let (control, worker) = mailbox();
        (Publisher::new(vec![control]), worker)
    }

    fn generation(generation: u64) -> Arc<Snapshot> {
        let mut snapshot = Snapshot::default();
        snapshot.generation = generation;
        Arc::new(snapshot)
    }

    #[test]
    fn a_full_mailbox_keeps_only_the_newest_snapshot_pending() {
        let (mut publisher, mut worker) = pair();
        let last = CAPACITY as u64 + 5;
        for n in 1..=last {
            publisher.publish(&generation(n));
        }
        let mut seen = Vec::new();
        for _ in 0..CAPACITY {
            let Some(Order::Publish(snapshot)) = worker.take() else { panic!("an order waits") };
            seen.push(snapshot.generation);
            worker.answer(Answer::Retired(snapshot));
        }
        assert!(worker.take().is_none(), "nothing more fits before answers are read");
        publisher.poll();
        let Some(Order::Publish(snapshot)) = worker.take() else { panic!("the newest follows") };
        seen.push(snapshot.generation);
        worker.answer(Answer::Retired(snapshot));
        publisher.poll();
        assert_eq!(seen, (1..=CAPACITY as u64).chain([last]).collect::<Vec<_>>());
        assert!(!publisher.busy());
    }

    #[test]
    fn a_retired_snapshot_is_freed_by_the_control_thread() {
        let (mut publisher, mut worker) = pair();
        let first = generation(1);
        publisher.publish(&first);
        let Some(Order::Publish(held)) = worker.take() else { panic!("an order waits") };
        assert_eq!(Arc::strong_count(&first), 2);
        worker.answer(Answer::Retired(held));
        publisher.poll();
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[test]
    fn one_page_at_a_time_is_asked_of_a_worker() {
        let (mut publisher, mut worker) = pair();
        assert!(publisher.dump(WorkerId(0), Page::default()).is_ok());
        assert!(publisher.dump(WorkerId(0), Page { cursor: 7, ..Page::default() }).is_err());
        assert!(publisher.dump(WorkerId(1), Page::default()).is_err(), "no such worker");
        let Some(Order::Dump(page)) = worker.take() else { panic!("a dump waits") };
        worker.answer(Answer::Page(Page { done: true, ..page }));
        publisher.poll();
        assert!(publisher.page().is_some_and(|(id, page)| id == WorkerId(0) && page.done));
        assert!(publisher.dump(WorkerId(0), Page::default()).is_ok());
    }

    #[test]
    fn stop_waits_for_every_worker_and_ends_dumps() {
        let (mut publisher, mut worker) = pair();
        publisher.stop();
        assert!(!publisher.stopped());
        assert_eq!(publisher.running(), [WorkerId(0)]);
        assert!(publisher.dump(WorkerId(0), Page::default()).is_err());
        assert!(matches!(worker.take(), Some(Order::Stop)));
        worker.answer(Answer::Stopped);
        publisher.poll();
        assert!(publisher.stopped());
    }
}
