//! The rules once more, written down plainly: a list of backends, newest first, walked from the
//! start for every connection. Random histories must come out alike.

use proptest::prelude::*;

use super::*;

/// A backend as the rules see it.
#[derive(Clone, Copy, Debug)]
struct Rule {
    name: char,
    weight: u64,
    active: u64,
    total: u64,
}

impl Rule {
    fn overhead(&self) -> u64 {
        self.active * 256 + self.total
    }
}

/// The first with the least of `over` / `under`.
fn least(list: &[Rule], rank: impl Fn(&Rule) -> (u64, u64)) -> Option<char> {
    let mut best: Option<&Rule> = None;
    for rule in list.iter().filter(|rule| rule.weight > 0) {
        let (over, under) = rank(rule);
        if best.is_none_or(|best| over * rank(best).1 < rank(best).0 * under) {
            best = Some(rule);
        }
    }
    best.map(|rule| rule.name)
}

fn sed(list: &[Rule]) -> Option<char> {
    least(list, |rule| (rule.active + 1, rule.weight))
}

fn chosen(scheduler: &str, list: &[Rule]) -> Option<char> {
    match scheduler {
        "lc" => least(list, |rule| (rule.overhead(), 1)),
        "wlc" => least(list, |rule| (rule.overhead(), rule.weight)),
        "sed" => sed(list),
        "nq" => {
            let idle = list.iter().find(|rule| rule.weight > 0 && rule.active == 0);
            idle.map(|rule| rule.name).or_else(|| sed(list))
        }
        "fo" => least(list, |rule| (1, rule.weight)),
        "ovf" => {
            let room: Vec<Rule> =
                list.iter().filter(|rule| rule.active <= rule.weight).copied().collect();
            least(&room, |rule| (1, rule.weight))
        }
        other => panic!("no rule for {other}"),
    }
}

/// What happens next; names are taken round the alphabet.
#[derive(Clone, Debug)]
enum Event {
    Connect,
    /// A connection turns active or inactive.
    Turn(usize),
    /// A connection ends.
    End(usize),
    Add(u8, u32),
    Remove(u8),
    Weigh(u8, u32),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Connect),
        4 => (0..1000usize).prop_map(Event::Turn),
        4 => (0..1000usize).prop_map(Event::End),
        1 => (0..12u8, 0..9u32).prop_map(|(name, weight)| Event::Add(name, weight)),
        1 => (0..12u8).prop_map(Event::Remove),
        1 => (0..12u8, 0..9u32).prop_map(|(name, weight)| Event::Weigh(name, weight)),
    ]
}

struct History {
    bed: Bed,
    /// Backend, and whether it is active.
    connections: Vec<(char, bool)>,
}

impl History {
    fn rules(&self) -> Vec<Rule> {
        let rule = |seat: &Seat| {
            let its = || self.connections.iter().filter(|(name, _)| *name == seat.name);
            let active = its().filter(|(_, active)| *active).count() as u64;
            Rule {
                name: seat.name,
                weight: seat.weight.into(),
                active,
                total: its().count() as u64,
            }
        };
        self.bed.seats.iter().map(rule).collect()
    }

    fn happen(&mut self, event: &Event) {
        let name = |n: u8| char::from(b'A' + n);
        match *event {
            Event::Connect => {
                let expected = chosen(self.bed.scheduler.method().name, &self.rules());
                let got = self.bed.place(0, &from(client(), 2000));
                assert_eq!(got, expected, "{:?} {:?}", self.bed.scheduler, self.rules());
                self.connections.extend(got.map(|name| (name, false)));
            }
            Event::Turn(n) => {
                let count = self.connections.len();
                if let Some((name, active)) = self.connections.get_mut(n % count.max(1)) {
                    *active = !*active;
                    self.bed.turn(0, *name, *active);
                }
            }
            Event::End(n) => {
                if !self.connections.is_empty() {
                    let n = n % self.connections.len();
                    let (name, active) = self.connections.swap_remove(n);
                    self.bed.end(0, name, active);
                }
            }
            Event::Add(n, weight) => {
                if self.bed.seats.iter().all(|seat| seat.name != name(n)) {
                    self.bed.seat(name(n), weight);
                    self.bed.publish();
                }
            }
            Event::Remove(n) => {
                self.bed.remove(name(n));
                self.bed.publish();
            }
            Event::Weigh(n, weight) => {
                self.bed.weigh(name(n), weight);
                self.bed.publish();
            }
        }
    }
}

proptest! {
    #[test]
    fn any_history_is_scheduled_by_the_rules(
        which in 0..6usize,
        weights in proptest::collection::vec(0..9u32, 0..8),
        events in proptest::collection::vec(event(), 0..300),
    ) {
        let scheduler = ["lc", "wlc", "sed", "nq", "fo", "ovf"][which];
        let mut history = History { bed: Bed::of(scheduler, &[], &weights), connections: vec![] };
        for event in &events {
            history.happen(event);
        }
        for (name, active) in std::mem::take(&mut history.connections) {
            history.bed.end(0, name, active);
        }
        for name in ('A'..).take(12) {
            prop_assert_eq!(history.bed.loads.of(id(name)), crate::stats::loads::Load::default());
        }
    }

    /// Over whole rounds every backend gets exactly its weight (divided by the common divisor).
    #[test]
    fn wrr_honours_weights_exactly(weights in proptest::collection::vec(0u32..20, 1..8)) {
        let mut bed = Bed::of("wrr", &[], &weights);
        let divisor = weights.iter().copied().fold(0, |a, b| {
            let (mut a, mut b) = (a, b);
            while b != 0 { (a, b) = (b, a % b); }
            a
        });
        if divisor == 0 {
            assert_eq!(bed.sequence(1), ".");
            return Ok(());
        }
        let round: u32 = weights.iter().sum::<u32>() / divisor;
        // The first pass is a partial round; skip to where a round begins.
        let lead = weights.iter().filter(|w| **w > 0).count();
        bed.sequence(u16::try_from(lead).unwrap());
        let got = bed.sequence(u16::try_from(round).unwrap());
        for (name, weight) in ('A'..).zip(weights) {
            let count = got.chars().filter(|c| *c == name).count();
            prop_assert_eq!(count, (weight / divisor) as usize, "{}", got);
        }
    }
}
