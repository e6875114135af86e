//! What can be said in a request at all.
//!
//! A check that cannot be put into words fails for ever, and looks like a backend that is dead. So validation and `shunt
//! import` ask here, and here those are asked who write the request: hyper for HTTP, rustls for names in TLS. What a
//! line of text carries is asked for visible ASCII characters besides: a line's end in it would begin another line.

use hyper::{Method, Uri};
use rustls::pki_types::ServerName;

use super::super::check::without_port;

/// Or what was expected, in words that `was expected` may follow.
pub type Sayable = Result<(), &'static str>;

/// A method of HTTP.
pub fn method(text: &str) -> Sayable {
    let is_sayable = Method::from_bytes(text.as_bytes()).is_ok_and(|it| it != Method::CONNECT);
    expect(is_sayable, "a method of HTTP such as GET (CONNECT is none here)")
}

/// What is asked for by HTTP, as it is sent (RFC 9112, section 3.2.1).
pub fn path(text: &str) -> Sayable {
    let is_whole = |uri: Uri| uri.path_and_query().is_some_and(|it| it.as_str() == text);
    let is_sayable =
        text.starts_with('/') && visible(text).is_ok() && text.parse().is_ok_and(is_whole);
    expect(is_sayable, "a path that begins with /, in ASCII, without blanks and # (%20, %23)")
}

/// Who is asked by HTTP: a name or address, perhaps with a port (RFC 9110, section 7.2).
pub fn host(text: &str) -> Sayable {
    // Behind a colon there is a number.
    let is_whole = |uri: Uri| {
        let all = uri.authority().is_some_and(|it| it.as_str() == text);
        all && (uri.port().is_some() || uri.host() == Some(text))
    };
    let is_host = visible(text).is_ok() && !text.contains('@');
    let is_sayable = is_host && format!("http://{text}/").parse().is_ok_and(is_whole);
    expect(is_sayable, "the name or address of a host (and its port)")
}

/// Who is asked by HTTPS where nobody says whose certificate is asked for: the host's.
pub fn tls_host(text: &str) -> Sayable {
    host(text)?;
    let is_name = name(without_port(text)).is_ok();
    expect(is_name, "a host with a name that can be asked for in TLS, or `sni_name`")
}

/// Whose certificate is asked for in TLS.
pub fn name(text: &str) -> Sayable {
    expect(ServerName::try_from(text).is_ok(), "the bare name or address of a host")
}

/// A word in a line of text.
pub fn visible(text: &str) -> Sayable {
    let is_sayable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    expect(is_sayable, "a word of ASCII characters without blanks")
}

/// What DNS is asked about: `.`, or labels of 1 to 63 characters, 253 in all (RFC 1035, section 2.3.4).
pub fn domain(text: &str) -> Sayable {
    const NAME_MAX: usize = 253;
    const LABEL_MAX: usize = 63;
    let bare = text.strip_suffix('.').unwrap_or(text);
    let is_label = |it: &str| it.len() <= LABEL_MAX && visible(it).is_ok();
    let is_sayable = text == "." || bare.len() <= NAME_MAX && bare.split('.').all(is_label);
    expect(is_sayable, "a domain name")
}

/// A program and its arguments.
pub fn command(words: &[String]) -> Sayable {
    let is_sayable = words.first().is_some_and(|program| program.starts_with('/'))
        && !words.iter().any(|word| word.contains('\0'));
    expect(is_sayable, "the whole path of a program, and words without NUL in them")
}

fn expect(is_sayable: bool, what: &'static str) -> Sayable {
    if is_sayable { Ok(()) } else { Err(what) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rows<'a> = (fn(&str) -> Sayable, &'a [&'a str], &'a [&'a str]);

    #[test]
    fn what_can_be_said_and_what_cannot() {
        let long = "a".repeat(64);
        let label = format!("{}.", &long[1..]).repeat(4);
        let all: [Rows<'_>; 7] = [
            (
                method,
                &["GET", "HEAD", "PROPFIND", "X-Y"],
                &["", "G T", "GET\r\n", "GÉT", "GET/", "CONNECT"],
            ),
            (
                path,
                &["/", "/a/b?c=d&e", "//a", "/%20", "/a:b@c"],
                &["", "a", "*", "/a b", "/a\r\nX: y", "/é", "/a#b", "/a<b", "/\0", "http://h/a"],
            ),
            (
                host,
                &["h", "www.example.com:8443", "10.0.0.1", "[2001:db8::1]:80", "a_b"],
                &["", "a b", "h\r\nX: y", "hé", "h/a", "u@h", "h:port", "h:1:2", "[::1"],
            ),
            (tls_host, &["h:8443", "[2001:db8::1]:80"], &["a,b", "a,b:80", "h/a"]),
            (
                name,
                &["www.example.com", "10.0.0.1", "2001:db8::1", "a_b"],
                &["", "a b", "a\n", "é", "h:443", "a..b", "*.example.com", &long],
            ),
            (visible, &["mx.example.com", "a,b"], &["", "a b", "a\r", "é", "\u{7f}"]),
            (
                domain,
                &[".", "www", "www.example.com", "www.example.com.", "_sip._udp.example.com"],
                &["", "..", "a..b", ".a", "a b", "é", "a\n", &long, &label],
            ),
        ];
        for (rule, good, bad) in all {
            for text in good {
                assert_eq!(rule(text), Ok(()), "{text:?}");
            }
            for text in bad {
                assert!(rule(text).is_err(), "{text:?}");
            }
        }
    }
}
