//! Rise and fall: what a row of answers makes of a check's verdict.
//!
//! ```text
//!            fall failures in a row
//!      ┌──────────────────────────────►┐
//!     up                              down
//!      └◄──────────────────────────────┘
//!            rise successes in a row
//! ```
//!
//! One answer that agrees with the verdict starts the row anew, so a backend that fails every second
//! check is up for ever with `fall` 2. That is what the flap limit is not for: it counts changes.

/// One check's verdict, and what speaks against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The verdict.
    pub is_up: bool,
    /// Answers in a row that contradict it.
    against: u32,
}

impl Machine {
    /// A verdict that nothing speaks against.
    pub fn new(is_up: bool) -> Self {
        Self { is_up, against: 0 }
    }

    /// Takes an answer. True if the verdict has changed.
    pub fn note(&mut self, passed: bool, rise: u32, fall: u32) -> bool {
        if passed == self.is_up {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < if passed { rise } else { fall } {
            return false;
        }
        *self = Self::new(passed);
        true
    }

    /// Does the last answer contradict the verdict?
    pub fn is_in_doubt(&self) -> bool {
        self.against > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers, and the verdict after each. `+` and `-` are answers, capitals of the second line are up.
    #[test]
    fn a_verdict_changes_with_so_many_answers_in_a_row_and_no_sooner() {
        let table = [
            ("start up, fall 3, rise 2", true, 2, 3, "--+---+-++", "UUUUUddddU"),
            ("fall 1 and rise 1 follow every answer", true, 1, 1, "-+-+", "dUdU"),
            ("start down, rise 2", false, 2, 3, "+-++--+---", "dddUUUUUUd"),
            ("every second failure changes nothing with fall 2", true, 1, 2, "-+-+-+", "UUUUUU"),
        ];
        for (name, start, rise, fall, answers, verdicts) in table {
            let mut machine = Machine::new(start);
            for (position, (answer, verdict)) in answers.chars().zip(verdicts.chars()).enumerate() {
                let before = machine.is_up;
                let changed = machine.note(answer == '+', rise, fall);
                assert_eq!(changed, before != machine.is_up, "{name}");
                let expected = verdict == 'U';
                assert_eq!(machine.is_up, expected, "{name}, answer {}", position + 1);
                let contradicts = (answer == '+') != machine.is_up;
                assert_eq!(machine.is_in_doubt(), contradicts, "{name}");
            }
        }
    }
}
