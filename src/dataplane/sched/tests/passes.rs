//! wrr through changes of its backends, held against the rule written down plainly: a threshold that is
//! adjusted with every single one of them, and a list that is walked from where the last was chosen.

use proptest::prelude::*;

use super::*;

/// The kernel's wrr: what it remembers, and its list, newest first.
#[derive(Default)]
struct Kernel {
    list: Vec<(char, u64)>,
    threshold: u64,
    step: u64,
    top: u64,
    /// Where the next walk goes on.
    next: usize,
}

impl Kernel {
    fn weights(&mut self) {
        let largest = self.list.iter().map(|(_, weight)| *weight).max().unwrap_or(0);
        let divides = |step: &u64| self.list.iter().all(|(_, weight)| weight.is_multiple_of(*step));
        self.step = if largest == 0 { 1 } else { (1..=largest).rev().find(divides).unwrap() };
        self.top = if largest == 0 { 0 } else { largest + 1 - self.step };
        self.next = 0;
    }

    /// The scheduler is bound to the service.
    fn init(&mut self) {
        self.weights();
        self.threshold = self.top;
    }

    /// One backend was added, removed or edited.
    fn update(&mut self) {
        self.weights();
        if self.threshold == 0 || self.threshold > self.top {
            self.threshold = self.top;
        } else if self.step > 1 {
            self.threshold = self.threshold / self.step * self.step + 1;
        }
    }

    fn schedule(&mut self) -> Option<char> {
        if self.top == 0 {
            return None;
        }
        loop {
            while let Some((name, weight)) = self.list.get(self.next) {
                self.next += 1;
                if *weight >= self.threshold {
                    return Some(*name);
                }
            }
            self.next = 0;
            self.threshold =
                if self.threshold > self.step { self.threshold - self.step } else { self.top };
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Connect,
    Add(u8, u32),
    Remove(u8),
    Weigh(u8, u32),
    /// The workers see what has changed, also if no connection comes.
    Publish,
    /// To another scheduler and back, with or without a connection meanwhile.
    Away(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let weight = || prop_oneof![0..9u32, (1..5u32).prop_map(|n| n * 6), Just(40)];
    prop_oneof![
        12 => Just(Event::Connect),
        3 => (0..8u8, weight()).prop_map(|(name, weight)| Event::Add(name, weight)),
        3 => (0..8u8).prop_map(Event::Remove),
        3 => (0..8u8, weight()).prop_map(|(name, weight)| Event::Weigh(name, weight)),
        3 => Just(Event::Publish),
        1 => any::<bool>().prop_map(Event::Away),
    ]
}

/// Shunt's one worker and the kernel, side by side.
struct Pair {
    bed: Bed,
    kernel: Kernel,
}

impl Pair {
    fn change(&mut self, name: char, weight: Option<u32>) {
        let at = self.kernel.list.iter().position(|(known, _)| *known == name);
        match (at, weight) {
            (None, None) => return,
            (None, Some(weight)) => {
                self.bed.seat(name, weight);
                self.kernel.list.insert(0, (name, weight.into()));
            }
            (Some(at), None) => {
                self.bed.remove(name);
                self.kernel.list.remove(at);
            }
            (Some(at), Some(weight)) => {
                self.bed.weigh(name, weight);
                self.kernel.list[at].1 = weight.into();
            }
        }
        self.kernel.update();
    }

    fn happen(&mut self, event: &Event) {
        let name = |n: u8| char::from(b'A' + n);
        match *event {
            Event::Connect => {
                self.bed.publish_changes();
                let (got, expected) =
                    (self.bed.place(0, &from(client(), 1)), self.kernel.schedule());
                assert_eq!(got, expected, "{:?}", self.kernel.list);
            }
            Event::Add(n, weight) | Event::Weigh(n, weight) => self.change(name(n), Some(weight)),
            Event::Remove(n) => self.change(name(n), None),
            Event::Publish => self.bed.publish_changes(),
            Event::Away(is_used) => {
                self.bed.reschedule("rr");
                self.bed.publish();
                if is_used {
                    self.bed.place(0, &from(client(), 1));
                }
                self.bed.reschedule("wrr");
                self.bed.publish();
                self.kernel.init();
            }
        }
    }
}

impl Bed {
    /// As the control plane does: no new revision if nothing is new.
    fn publish_changes(&mut self) {
        if self.snapshot.services.is_empty() || self.has_changed {
            self.publish();
        }
    }
}

proptest! {
    #[test]
    fn wrr_is_the_kernels_through_any_changes(
        events in proptest::collection::vec(event(), 0..300),
    ) {
        let mut pair = Pair { bed: Bed::new("wrr", &[], 1), kernel: Kernel::default() };
        for event in &events {
            pair.happen(event);
        }
    }
}

/// Flows, changes before them (`None` removes), what 14 connections get.
#[test]
fn several_changes_between_two_connections_count_each() {
    let replaced: [(char, Option<u32>); 2] = [('A', None), ('D', Some(5))];
    let again = [('A', None), ('A', Some(5))];
    for (changes, expected) in [(again, "CBAAAACBAAAAAC"), (replaced, "CBAAADCBDDDDDC")] {
        for is_published_between in [false, true] {
            let mut bed = Bed::of("wrr", &[], &[5, 1, 1]);
            let mut got = bed.sequence(5);
            for (name, weight) in changes {
                match weight {
                    Some(weight) => bed.seat(name, weight),
                    None => bed.remove(name),
                }
                if is_published_between {
                    bed.publish();
                }
            }
            bed.publish();
            got += &bed.sequence(9);
            assert_eq!(got, expected, "published between: {is_published_between}");
        }
    }
}
