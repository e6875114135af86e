//! Debian's `ipvsadm`, with the shim.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What a program said, and its exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

/// The shim, built once.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ipvsadm/shim.c");
        let shim = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("ipvsadm-{}.so", std::process::id()));
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&shim)
            .arg(source)
            .status();
        assert!(built.unwrap().success(), "the shim does not compile");
        shim
    })
}

/// Runs it. `table` and `connections` are what the kernel would know.
pub(crate) fn ipvsadm(line: &[String], table: &str, connections: &str) -> Answer {
    let folder = tempfile::tempdir().unwrap();
    let (table_file, connections_file) =
        (folder.path().join("table"), folder.path().join("connections"));
    fs::write(&table_file, table).unwrap();
    fs::write(&connections_file, connections).unwrap();
    let output = Command::new("ipvsadm")
        .args(line)
        .env("LD_PRELOAD", shim())
        .env("SHIM_TABLE", table_file)
        .env("SHIM_CONNECTIONS", connections_file)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("ipvsadm cannot be run ({error}): apt-get install ipvsadm"));
    Answer {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap_or(-1),
    }
}
