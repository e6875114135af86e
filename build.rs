//! Stamps what was built, for `--version` and the first log line:
//!
//! - `SHUNT_VERSION`: the package version and the short git id, `0.1.0 (1a2b3c4d5e6f)`;
//! - `SHUNT_GIT`: the id alone, `unknown` outside a git checkout. Whoever builds from elsewhere
//!   says it in `SHUNT_GIT_ID`; so may who does not want a rebuild for every commit;
//! - `SHUNT_DPDK_VERSION`: the DPDK whose headers were bound. The library loaded at run time may
//!   be newer; `dpdk::eal::version` tells that one.

use std::process::Command;

fn main() {
    let given = std::env::var("SHUNT_GIT_ID").ok();
    let git = given.clone().or_else(git_id).unwrap_or_else(|| "unknown".to_owned());
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let dpdk = std::env::var("DEP_DPDK_VERSION").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=SHUNT_VERSION={version} ({git})");
    println!("cargo::rustc-env=SHUNT_GIT={git}");
    println!("cargo::rustc-env=SHUNT_DPDK_VERSION={dpdk}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SHUNT_GIT_ID");
    for path in if given.is_none() { &["HEAD", "logs/HEAD"][..] } else { &[] } {
        if let Some(file) = git_output(&["rev-parse", "--git-path", path]) {
            println!("cargo::rerun-if-changed={file}");
        }
    }
}

/// Twelve digits of the commit checked out.
fn git_id() -> Option<String> {
    git_output(&["rev-parse", "--short=12", "HEAD"])
}

fn git_output(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
