//! Numbers in sentences.

/// `1 service`, `2 services`: for words that only take an s.
pub fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_all_else_plural() {
        let said = [0, 1, 2].map(|number| count(number, "service"));
        assert_eq!(said, ["0 services", "1 service", "2 services"]);
    }
}
