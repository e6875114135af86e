//! What is said of checks that differ.

use super::*;

/// Two lists of checks, and what the second changes.
#[test]
fn of_checks_that_stay_each_key_that_differs_is_a_line() {
    let base = plan(BASE);
    let with =
        |checks: &str| plan(&BASE.replacen("weight = 1", &format!("weight = 1\n{checks}"), 1));
    let check = |keys: &str| format!("[[service.check]]\n{keys}\n");
    let http = check("kind = \"http\"");
    let table: [(String, String, &[&str]); 7] = [
        (
            check("kind = \"http\""),
            check("kind = \"http\"\ninterval_ms = 900\nfall = 2\nstatus = [\"200\", \"301-302\"]"),
            &[
                "~ service web: check http GET / interval_ms 2000 -> 900",
                "~ service web: check http GET / fast_interval_ms 1000 -> 900",
                "~ service web: check http GET / fall 3 -> 2",
                "~ service web: check http GET / status [200-299] -> [200, 301-302]",
            ],
        ),
        (
            check("kind = \"http\""),
            check("kind = \"http\"\npath = \"/healthz\""),
            &[
                "+ service web: check http GET /healthz every 2000 ms",
                "- service web: check http GET / every 2000 ms",
            ],
        ),
        (
            check("kind = \"tcp\"\nsend = \"PING\\r\\n\""),
            check("kind = \"tcp\"\nsend_hex = \"00ff\"\nexpect = \"PONG\""),
            &[
                "~ service web: check tcp send \"PING\\r\\n\" -> 00ff",
                "~ service web: check tcp expect none -> \"PONG\"",
            ],
        ),
        (
            check("kind = \"dns\""),
            check("kind = \"dns\"\ntype = \"AAAA\"\naddress = \"10.9.9.9\""),
            &[
                "~ service web: check dns . address none -> 10.9.9.9",
                "~ service web: check dns . type SOA -> AAAA",
            ],
        ),
        (
            check("kind = \"https\"\nsni = \"a\""),
            check("kind = \"https\"\nsni = \"b\""),
            &["~ service web: check https GET / sni a -> b"],
        ),
        // One of three goes; their order is none.
        (
            http.clone() + &check("kind = \"ping\"") + &check("kind = \"smtp\""),
            check("kind = \"smtp\"\nhelo = \"me\"") + &http,
            &[
                "~ service web: check smtp helo shunt -> me",
                "- service web: check ping every 2000 ms",
            ],
        ),
        // Two that are alike are two.
        (http.clone() + &http, http.clone(), &["- service web: check http GET / every 2000 ms"]),
    ];
    for (old, new, says) in table {
        let difference = diff(&with(&old), &with(&new)).to_string();
        assert_eq!(difference.lines().collect::<Vec<_>>(), says);
    }
    let added = diff(&base, &with(&http));
    let json = serde_json::to_value(&added).unwrap();
    assert_eq!(
        (&json[0]["change"], &json[0]["check"]["kind"]),
        (&"check_added".into(), &"http".into())
    );
}
