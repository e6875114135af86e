//! The admin API beyond the machine: what it must not be without, and files that cannot be used.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "the admin API for everybody",
        edit: (
            "[dpdk]",
            "[admin]\nlisten = \"192.0.2.1:9151\"\n[dpdk]",
        ),
        says: &[
            "shunt.toml:5:10: listen without certificate_file, key_file, token_file",
            "    5 | listen = \"192.0.2.1:9151\"",
            "      |          ^^^^^^^^^^^^^^^^",
            "      help: whoever asks from elsewhere is asked for a token, over TLS",
        ],
    },
    Row {
        name: "a token nobody is asked for",
        edit: (
            "[dpdk]",
            "[admin]\ntoken_file = \"token\"\n[dpdk]",
        ),
        says: &[
            "shunt.toml:5:14: token_file is for `listen`, which is not there",
            "    5 | token_file = \"token\"",
            "      |              ^^^^^^^",
            "      help: for example `listen = \"192.0.2.1:9151\"`",
        ],
    },
];

/// What is said of `[admin]` with these files.
fn said(certificate: &str, key: &str, token: &str) -> String {
    let admin = format!(
        "[admin]\nlisten = \"[::1]:9151\"\ncertificate_file = \"{certificate}\"\n\
         key_file = \"{key}\"\ntoken_file = \"{token}\"\n[dpdk]"
    );
    let said = refusal(&BASE.replacen("[dpdk]", &admin, 1));
    said.lines().filter(|line| line.starts_with("shunt.toml:")).collect::<Vec<_>>().join("\n")
}

#[test]
fn files_that_cannot_be_used_are_each_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let no = folder.path().join("no").to_str().unwrap().to_owned();
    let token = "0123456789abcdef";
    let (empty, short) = (file("empty", "", 0o600), file("short", "x", 0o600));
    let open = file("open", token, 0o644);
    let missing = format!("{no}: cannot be opened: No such file or directory (os error 2)");
    let everybodys = format!("{open}: anybody may open it (mode 0644); chmod o= {open}");
    for (certificate, key, token, wanted) in [
        (&no, &no, &no, [&*missing, &missing, &missing].map(str::to_owned)),
        (
            &empty,
            &open,
            &open,
            [format!("{empty}: there is no certificate in it"), everybodys.clone(), everybodys],
        ),
        (
            &open,
            &empty,
            &short,
            [
                format!("{open}: there is no certificate in it"),
                format!("{empty}: it is not PEM: NoItemsFound"),
                format!(
                    "{short}: the token has 1 characters; at least 16 and at most 1024 were expected"
                ),
            ],
        ),
    ] {
        let [first, second, third] = wanted;
        let wanted = format!(
            "shunt.toml:6:20: certificate_file {first}\nshunt.toml:7:12: key_file {second}\n\
             shunt.toml:8:14: token_file {third}"
        );
        assert_eq!(said(certificate, key, token), wanted);
    }
}

#[test]
fn an_address_that_is_none_is_told_and_an_empty_one_turns_it_off() {
    let with = |listen: &str| {
        let admin = format!("[admin]\nlisten = \"{listen}\"\ntoken_file = \"/no\"\n[dpdk]");
        read(&BASE.replacen("[dpdk]", &admin, 1))
    };
    assert!(with("").unwrap().plan.remote.is_none());
    for listen in ["9151", "192.0.2.1", "192.0.2.1:0", "lb1:9151"] {
        let said = with(listen).unwrap_err().to_string();
        assert!(said.contains(&format!("listen `{listen}` is not an address and port")), "{said}");
    }
}
