//! A line of `keepalived.conf` taken apart: comments off, words out, braces told from words.
//!
//! ```text
//! quorum_up "/bin/up a  b" web   # said to nobody
//! ─word──── ────word────── word  └─ comment: from `#` or `!`, outside quotes, to the line's end
//! ```
//!
//! Quotes of either kind join what is in them to the word around them (`ab" c"d` is one word), and
//! take no part in it. A backslash takes the meaning from what follows, as in the shell, and stands for
//! a few control characters. A quote that is not closed ends with its line.

use std::iter::Peekable;
use std::str::Chars;

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word, its quotes taken off.
    Word(String),
    /// `{`
    Open,
    /// `}`
    Close,
}

/// The line without its comment.
pub(super) fn uncommented(line: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (at, character) in line.char_indices() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, '#' | '!') => return &line[..at],
            _ => {}
        }
    }
    line
}

/// The pieces of a line that has no comment.
pub(super) fn tokens(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = line.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return tokens;
        }
        let (word, plain) = word(&mut rest);
        tokens.extend(classified(word, plain));
    }
}

/// The words of a value that is taken apart once more: braces are words like others.
pub(super) fn words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = value.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return words;
        }
        words.push(word(&mut rest).0);
    }
}

/// The next word, and whether nothing of it was quoted or escaped.
fn word(rest: &mut Peekable<Chars<'_>>) -> (String, bool) {
    let (mut word, mut quote, mut plain) = (String::new(), None, true);
    while let Some(character) = rest.next_if(|c| quote.is_some() || !c.is_whitespace()) {
        match (quote, character) {
            (_, '\\') => {
                plain = false;
                word.extend(escaped(rest));
            }
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => (quote, plain) = (Some(character), false),
            (_, c) => word.push(c),
        }
    }
    (word, plain)
}

/// What a backslash and what follows it stand for.
fn escaped(rest: &mut Peekable<Chars<'_>>) -> Option<char> {
    let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok();
    match rest.next()? {
        'a' => Some('\u{7}'),
        'b' => Some('\u{8}'),
        'E' => Some('\u{1b}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\u{b}'),
        'x' => char::from_u32(number(&digits(rest, String::new(), 16, 2), 16)?),
        'c' => rest.next().map(|c| char::from(u8::try_from(c).unwrap_or_default() & 0x1f)),
        c @ '0'..='7' => char::from_u32(number(&digits(rest, c.to_string(), 8, 3), 8)?),
        c => Some(c),
    }
}

/// At most so many digits.
fn digits(rest: &mut Peekable<Chars<'_>>, mut got: String, radix: u32, most: usize) -> String {
    while got.len() < most
        && let Some(digit) = rest.next_if(|c| c.is_digit(radix))
    {
        got.push(digit);
    }
    got
}

/// A word, perhaps with a brace stuck to its end.
fn classified(word: String, plain: bool) -> Vec<Token> {
    match word.as_str() {
        "{" if plain => vec![Token::Open],
        "}" if plain => vec![Token::Close],
        // `${NAME}` that nobody has defined stays a word.
        other if plain && !other.contains('$') && other.ends_with('{') => {
            vec![Token::Word(other.trim_end_matches('{').to_owned()), Token::Open]
        }
        _ => vec![Token::Word(word)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Vec<String> {
        let show = |token| match token {
            Token::Word(word) => word,
            Token::Open => "<".to_owned(),
            Token::Close => ">".to_owned(),
        };
        tokens(uncommented(line)).into_iter().map(show).collect()
    }

    #[test]
    fn words_quotes_escapes_comments_and_braces() {
        let rows: [(&str, &[&str]); 15] = [
            ("", &[]),
            ("   ! all of it", &[]),
            ("weight 3 # three", &["weight", "3"]),
            ("weight 3!three", &["weight", "3"]),
            ("virtual_server 192.0.2.1 80 {", &["virtual_server", "192.0.2.1", "80", "<"]),
            ("virtual_server 192.0.2.1 80{", &["virtual_server", "192.0.2.1", "80", "<"]),
            ("TCP_CHECK { retry 2 }", &["TCP_CHECK", "<", "retry", "2", ">"]),
            ("a \"b # c\" d", &["a", "b # c", "d"]),
            ("a 'b ! \"c' d", &["a", "b ! \"c", "d"]),
            ("abcd\" efg h jkl \"mnop", &["abcd efg h jkl mnop"]),
            ("a \"{\" b", &["a", "{", "b"]),
            (r"a \# \x41\102 \tb", &["a", "#", "AB", "\tb"]),
            ("a \"not closed # b", &["a", "not closed # b"]),
            ("a ${UNDEFINED} b", &["a", "${UNDEFINED}", "b"]),
            ("a \\", &["a", ""]),
        ];
        for (line, expected) in rows {
            assert_eq!(shown(line), expected, "{line}");
        }
    }

    #[test]
    fn a_value_is_taken_apart_by_its_own_quotes() {
        let rows: [(&str, &[&str]); 5] = [
            ("/bin/check", &["/bin/check"]),
            ("/bin/check  -x 1 ", &["/bin/check", "-x", "1"]),
            ("/bin/check 'a b' \"c d\" ''", &["/bin/check", "a b", "c d", ""]),
            (r"/bin/my\ check {} # }", &["/bin/my check", "{}", "#", "}"]),
            ("", &[]),
        ];
        for (value, expected) in rows {
            assert_eq!(words(value), expected, "{value}");
        }
    }
}
