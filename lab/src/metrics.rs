//! A scrape of `/metrics`, readable by name and labels (Prometheus text format 0.0.4).

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// As the exporter sent it.
    pub text: String,
    /// Line by line.
    pub samples: Vec<Sample>,
}

impl Metrics {
    /// Reads a scrape; a line that is neither comment nor sample is an error.
    pub fn parse(text: &str) -> Result<Self> {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| sample(line).with_context(|| format!("metrics line {line:?}")))
            .collect::<Result<_>>()?;
        Ok(Self { text: text.to_owned(), samples })
    }

    /// Sum of the samples of this name whose labels include all of these; `None` if there is no
    /// such sample.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &Sample, (key, value): &(&str, &str)| {
            sample.labels.get(*key).is_some_and(|found| found == value)
        };
        let mut values = self
            .samples
            .iter()
            .filter(|sample| sample.name == name && labels.iter().all(|label| has(sample, label)))
            .map(|sample| sample.value)
            .peekable();
        values.peek()?;
        Some(values.sum())
    }
}

fn sample(line: &str) -> Result<Sample> {
    let (head, value) = line.rsplit_once(' ').context("no value")?;
    let (name, labels) = match head.split_once('{') {
        Some((name, rest)) => (name, parse_labels(rest.strip_suffix('}').context("no }")?)?),
        None => (head, BTreeMap::new()),
    };
    Ok(Sample { name: name.to_owned(), labels, value: value.parse()? })
}

/// `a="b",c="d"`, with `\"`, `\\` and `\n` in values.
fn parse_labels(mut text: &str) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (key, rest) = text.split_once("=\"").context("label without value")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next().context("label without end")? {
                (at, '"') => break at,
                (_, '\\') => match characters.next().context("escape without end")?.1 {
                    'n' => value.push('\n'),
                    escaped => value.push(escaped),
                },
                (_, plain) => value.push(plain),
            }
        };
        labels.insert(key.to_owned(), value);
        text = rest.get(end + 1..).unwrap_or_default();
        text = match text.strip_prefix(',') {
            Some(next) => next,
            None if text.is_empty() => text,
            None => bail!("something between labels"),
        };
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAPE: &str = "# HELP x_total Things.\n# TYPE x_total counter\n\
        x_total{port=\"wan\",direction=\"rx\"} 3\nx_total{port=\"lan\",direction=\"rx\"} 4\n\
        y 1.5\nz{say=\"a \\\"b\\\", c\"} 1\n";

    #[test]
    fn samples_are_summed_over_the_labels_not_asked_for() {
        let metrics = Metrics::parse(SCRAPE).unwrap();
        let table = [
            ("x_total", vec![], Some(7.0)),
            ("x_total", vec![("direction", "rx")], Some(7.0)),
            ("x_total", vec![("port", "lan"), ("direction", "rx")], Some(4.0)),
            ("x_total", vec![("port", "dmz")], None),
            ("y", vec![], Some(1.5)),
            ("z", vec![("say", "a \"b\", c")], Some(1.0)),
        ];
        for (name, labels, expected) in table {
            assert_eq!(metrics.sum(name, &labels), expected, "{name} {labels:?}");
        }
    }

    #[test]
    fn a_line_that_is_no_sample_is_refused() {
        for line in ["x", "x{a=\"b\" 1", "x{a} 1", "x one", "x{a=\"b\"c=\"d\"} 1"] {
            assert!(Metrics::parse(line).is_err(), "{line}");
        }
    }
}
