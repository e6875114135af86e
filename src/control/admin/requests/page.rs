//! `GET /`: a page for a browser, which only reads.
//!
//! One file, which asks `/status` and `/services` every two seconds and nobody else anything. What it may do is said in
//! its policy of content: run the one script that carries this answer's number, ask this server, and no more; no other
//! page may show it in a frame. It is built of text, never of HTML, so that a service's name is a name.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The file; the number stands where `@NONCE@` does.
const PAGE: &str = include_str!("page.html");
const NONCE: &str = "@NONCE@";

/// The page, with a number of its own.
pub(super) async fn page() -> Response {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        let sentence = "the kernel gave no random number";
        return (StatusCode::INTERNAL_SERVER_ERROR, sentence).into_response();
    }
    let nonce = format!("{:032x}", u128::from_ne_bytes(bytes));
    let policy = HeaderValue::from_str(&policy(&nonce));
    let mut answer = PAGE.replace(NONCE, &nonce).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(policy) = policy {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_one_file_that_asks_nobody_else_and_makes_no_html_of_names() {
        for word in ["http://", "https://", "//cdn", "src=", "@import", "url("] {
            assert!(!PAGE.contains(word), "the page names {word}");
        }
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!PAGE.contains(word), "{word} makes HTML or code of text");
        }
        for word in [" style=", " onclick=", "javascript:"] {
            assert!(!PAGE.contains(word), "the policy does not allow {word}");
        }
        assert_eq!(PAGE.matches(NONCE).count(), 2, "one style, one script");
    }
}
