//! What stands for several: `~SEQ(…)` and `~LST(…)` in front of a line, `{a,b}` in a file's name.

/// Values of one `~SEQ`. More than that is a mistake, or an attack on the reader.
const ROUNDS_MAX: usize = 1_000_000;
/// File names one pattern may stand for.
const NAMES_MAX: usize = 10_000;

/// Parameters and their values, for one time that a line is read.
pub(super) type Round = Vec<(String, String)>;

/// The rounds a line is read in, and the line. `None` if it is not understood.
pub(super) fn rounds(line: &str) -> Option<(Vec<Round>, &str)> {
    let (kind, rest) = line.strip_prefix('~')?.split_once('(')?;
    let (inside, rest) = split_closing(rest)?;
    let rounds = match kind.trim() {
        "SEQ" => sequence(inside, |value| value.to_string())?,
        "SEQx" => sequence(inside, |value| format!("{value:x}"))?,
        "LST" => list(inside)?,
        _ => return None,
    };
    Some((rounds, rest.trim_start()))
}

/// What stands before the brace that closes, and behind it.
fn split_closing(text: &str) -> Option<(&str, &str)> {
    text.split_once(')')
}

/// `NAME, [start, [step,]] end`.
fn sequence(inside: &str, show: fn(i64) -> String) -> Option<Vec<Round>> {
    let mut parts = inside.split(',').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let numbers: Vec<i64> = parts.map(number).collect::<Option<_>>()?;
    let (start, step, end) = match *numbers.as_slice() {
        [end] if end > 0 => (1, 1, end),
        [end] => (-1, -1, end),
        [start, end] => (start, if end >= start { 1 } else { -1 }, end),
        [start, step, end] if step != 0 => (start, step, end),
        _ => return None,
    };
    let mut rounds = Vec::new();
    let mut value = start;
    while (step > 0 && value <= end) || (step < 0 && value >= end) {
        rounds.push(vec![(name.to_owned(), show(value))]);
        value = value.checked_add(step)?;
        if rounds.len() > ROUNDS_MAX {
            return None;
        }
    }
    Some(rounds)
}

/// Decimal, or hexadecimal behind `0x`.
fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `NAME, value, value`, or `{NAME, NAME}, {value, value}, {value, value}`.
fn list(inside: &str) -> Option<Vec<Round>> {
    let mut items = items(inside).into_iter();
    let names = fields(items.next()?);
    let round = |item: &str| {
        let values = fields(item);
        let fits = values.len() == names.len();
        fits.then(|| names.iter().cloned().zip(values).collect::<Round>())
    };
    let rounds: Vec<Round> = items.map(round).collect::<Option<_>>()?;
    (!rounds.is_empty() && names.iter().all(|name| !name.is_empty())).then_some(rounds)
}

/// What commas separate, but for those in braces.
fn items(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0_usize, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                items.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(text[start..].trim());
    items
}

fn fields(item: &str) -> Vec<String> {
    let bare = item.strip_prefix('{').and_then(|item| item.strip_suffix('}'));
    match bare {
        Some(bare) => bare.split(',').map(|field| field.trim().to_owned()).collect(),
        None => vec![item.to_owned()],
    }
}

/// `a{b,c{d,e}}` as `ab`, `acd`, `ace`. Braces that do not match are ordinary characters.
pub(super) fn braces(pattern: &str) -> Vec<String> {
    let (mut done, mut waiting) = (Vec::new(), vec![pattern.to_owned()]);
    while let Some(one) = waiting.pop().filter(|_| done.len() < NAMES_MAX) {
        match first_group(&one) {
            Some((open, close)) => {
                let choices = items(&one[open + 1..close]).into_iter().rev();
                waiting.extend(
                    choices.map(|choice| [&one[..open], choice, &one[close + 1..]].concat()),
                );
            }
            None => done.push(one),
        }
    }
    done
}

/// The first brace, and the one that closes it.
fn first_group(pattern: &str) -> Option<(usize, usize)> {
    let open = pattern.find('{')?;
    let mut depth = 0_usize;
    for (at, character) in pattern[open..].char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => return Some((open, open + at)),
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `A=1 B=2; A=3 B=4 | rest`.
    fn shown(line: &str) -> Option<String> {
        let (rounds, rest) = rounds(line)?;
        let pair = |(name, value): &(String, String)| format!("{name}={value}");
        let round = |round: &Round| round.iter().map(pair).collect::<Vec<_>>().join(" ");
        Some(format!("{} | {rest}", rounds.iter().map(round).collect::<Vec<_>>().join("; ")))
    }

    #[test]
    fn sequences_count_and_lists_name() {
        let rows = [
            ("~SEQ(A, 0, 3) x", "A=0; A=1; A=2; A=3 | x"),
            ("~SEQ(A,3) x", "A=1; A=2; A=3 | x"),
            ("~SEQ(A,-2) x", "A=-1; A=-2 | x"),
            ("~SEQ(A,5,3) x", "A=5; A=4; A=3 | x"),
            ("~SEQ(A,168,2,172)x", "A=168; A=170; A=172 | x"),
            ("~SEQx(A, 0x90, 0x10, 0xb0) x", "A=90; A=a0; A=b0 | x"),
            ("~LST(A, one, two) x", "A=one; A=two | x"),
            ("~LST({A,  B}, {10,1},{20,4}) x y", "A=10 B=1; A=20 B=4 | x y"),
        ];
        for (line, expected) in rows {
            assert_eq!(shown(line).as_deref(), Some(expected), "{line}");
        }
        for line in [
            "~SEQ(A) x",
            "~SEQ(A,1,0,3) x",
            "~SEQ(A,one,two) x",
            "~SEQ(A,1,9 x",
            "~SEQ(,1,9) x",
            "~LST(A) x",
            "~LST({A,B},{1}) x",
            "~SEQ(A,1,9999999999) x",
            "~ELSE(A,1) x",
        ] {
            assert_eq!(shown(line), None, "{line}");
        }
    }

    #[test]
    fn braces_in_names_are_choices() {
        let rows: [(&str, &[&str]); 5] = [
            ("a.conf", &["a.conf"]),
            ("{a,b}.conf", &["a.conf", "b.conf"]),
            (
                "x{a,b{c,d},}y{1,2}",
                &["xay1", "xay2", "xbcy1", "xbcy2", "xbdy1", "xbdy2", "xy1", "xy2"],
            ),
            ("a{b", &["a{b"]),
            ("}a{b}", &["}ab"]),
        ];
        for (pattern, expected) in rows {
            assert_eq!(braces(pattern), expected, "{pattern}");
        }
        assert!(braces(&"{a,b}".repeat(40)).len() <= NAMES_MAX);
    }
}
