//! Rates as rows and columns, the same for the table of `shunt rates` and the screen of `shunt top`.

use std::cmp::Ordering;

use super::Rates;

/// What is shown of one thing in one column.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A name.
    Text(String),
    /// How many there are.
    Count(u64),
    /// How many a second.
    Rate(f64),
    /// A share of one.
    Share(f64),
    /// There is none.
    Nothing,
}

impl Cell {
    /// For programs: whole digits, nothing to strip.
    pub fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Count(count) => count.to_string(),
            Self::Rate(rate) => format!("{rate:.0}"),
            Self::Share(share) => format!("{:.0}%", share * 100.0),
            Self::Nothing => String::new(),
        }
    }

    /// For people: four digits at most.
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    pub fn short(&self) -> String {
        match self {
            Self::Count(count) => human(*count as f64),
            Self::Rate(rate) => human(*rate),
            other => other.plain(),
        }
    }

    /// Does it stand on the right?
    pub fn is_number(&self) -> bool {
        !matches!(self, Self::Text(_))
    }

    /// Names by the alphabet, numbers by size.
    #[expect(clippy::cast_precision_loss, reason = "only compared")]
    pub fn order(&self, other: &Self) -> Ordering {
        let number = |cell: &Self| match cell {
            Self::Count(count) => *count as f64,
            Self::Rate(number) | Self::Share(number) => *number,
            Self::Text(_) | Self::Nothing => f64::NEG_INFINITY,
        };
        match (self, other) {
            (Self::Text(one), Self::Text(another)) => one.cmp(another),
            _ => number(self).total_cmp(&number(other)),
        }
    }
}

/// A number in four characters and a letter: `999`, `1.23k`, `45.6M`.
fn human(number: f64) -> String {
    let units = [("G", 1e9), ("M", 1e6), ("k", 1e3)];
    let Some((unit, size)) = units.into_iter().find(|(_, size)| number >= size * 0.9995) else {
        return format!("{number:.0}");
    };
    let scaled = number / size;
    let digits = usize::from(scaled < 99.95) + usize::from(scaled < 9.995);
    format!("{scaled:.digits$}{unit}")
}

/// Rows of the same columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    /// One for each column.
    pub headings: &'static [&'static str],
    /// A cell for each heading.
    pub rows: Vec<Vec<Cell>>,
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

/// Ports.
pub fn ports(rates: &Rates) -> Sheet {
    let headings =
        &["port", "rx pps", "rx bps", "tx pps", "tx bps", "lost", "to kernel", "from kernel"];
    let row = |port: &super::PortRates| {
        let numbers = [
            port.rx_packets,
            port.rx_bits,
            port.tx_packets,
            port.tx_bits,
            port.lost_packets,
            port.to_kernel_packets,
            port.from_kernel_packets,
        ];
        std::iter::once(text(&port.port)).chain(numbers.map(Cell::Rate)).collect()
    };
    Sheet { headings, rows: rates.ports.iter().map(row).collect() }
}

/// Workers.
pub fn workers(rates: &Rates) -> Sheet {
    let headings = &["worker", "core", "busy", "connections", ""];
    let row = |worker: &super::WorkerRates| {
        vec![
            text(&worker.worker.to_string()),
            Cell::Count(worker.core as u64),
            Cell::Share(worker.busy),
            Cell::Count(worker.connections),
            text(if worker.stalled { "STANDS STILL" } else { "" }),
        ]
    };
    Sheet { headings, rows: rates.workers.iter().map(row).collect() }
}

/// Services.
pub fn services(rates: &Rates) -> Sheet {
    let headings = &[
        "service",
        "address",
        "backends",
        "connections",
        "new/s",
        "refused/s",
        "in pps",
        "in bps",
        "out pps",
        "out bps",
    ];
    let row = |service: &super::ServiceRates| {
        let mut row = vec![
            text(&service.service),
            text(&service.address),
            Cell::Count(service.backends as u64),
            Cell::Count(service.connections),
            Cell::Rate(service.new),
            Cell::Rate(service.refused),
        ];
        row.extend(service.passed.numbers().map(Cell::Rate));
        row
    };
    Sheet { headings, rows: rates.services.iter().map(row).collect() }
}

/// Backends.
pub fn backends(rates: &Rates) -> Sheet {
    let headings = &[
        "service",
        "backend",
        "weight",
        "connections",
        "active",
        "new/s",
        "in pps",
        "in bps",
        "out pps",
        "out bps",
    ];
    let row = |backend: &super::BackendRates| {
        let mut row = vec![
            text(&backend.service),
            text(&backend.backend),
            backend.weight.map_or(Cell::Nothing, |weight| Cell::Count(weight.into())),
            Cell::Count(backend.connections),
            Cell::Count(backend.active),
            Cell::Rate(backend.new),
        ];
        row.extend(backend.passed.numbers().map(Cell::Rate));
        row
    };
    Sheet { headings, rows: rates.backends.iter().map(row).collect() }
}

/// Reasons.
pub fn drops(rates: &Rates) -> Sheet {
    let headings = &["reason", "packets/s", "total", "meaning"];
    let row = |drops: &super::DropRates| {
        vec![
            text(&drops.reason),
            Cell::Rate(drops.packets),
            Cell::Count(drops.total),
            text(&drops.meaning),
        ]
    };
    Sheet { headings, rows: rates.drops.iter().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people_have_four_characters_and_a_letter() {
        let table = [
            (0.0, "0"),
            (0.6, "1"),
            (999.0, "999"),
            (999.6, "1.00k"),
            (1_234.0, "1.23k"),
            (9_996.0, "10.0k"),
            (45_678.0, "45.7k"),
            (99_960.0, "100k"),
            (999_400.0, "999k"),
            (999_600.0, "1.00M"),
            (12_345_678_901.0, "12.3G"),
        ];
        for (number, shown) in table {
            assert_eq!(human(number), shown, "{number}");
        }
    }

    #[test]
    fn cells_are_ordered_as_people_read_them() {
        let (few, many) = (Cell::Count(9), Cell::Count(10));
        assert_eq!(few.order(&many), Ordering::Less, "not by their digits");
        assert_eq!(Cell::Nothing.order(&Cell::Rate(0.0)), Ordering::Less);
        assert_eq!(Cell::Text("b".into()).order(&Cell::Text("a".into())), Ordering::Greater);
        assert_eq!(Cell::Share(0.5).order(&Cell::Share(0.5)), Ordering::Equal);
    }
}
