//! HAProxy on a host: a second reader of PROXY protocol headers, written by who invented them.
//!
//! ```text
//!   ─► :8181  a header of either version, or the connection is closed
//!        /       NAME ADDRESS PORT, as the header says
//!        /...    passed on to nginx at port 80 of the same host
//! ```

use std::fs;
use std::time::Duration;

use anyhow::Result;

use crate::programs::is_listening;
use crate::{Host, Network, Program};

/// Where it listens.
pub const PORT: u16 = 8181;
/// How long it may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts it, in the foreground, and waits until it listens.
pub fn start(network: &Network, host: &Host) -> Result<Program> {
    let what = format!("haproxy-{}", host.name());
    let file = network.folder().join(format!("{what}.cfg"));
    fs::write(&file, config(host.name()))?;
    let mut command = host.command("haproxy");
    command.args(["-db", "-f"]).arg(&file);
    let mut program = Program::start(network, &what, command)?;
    program.wait_until_ready(START_TIMEOUT, |_| is_listening(host, "tcp", PORT))?;
    Ok(program)
}

fn config(name: &str) -> String {
    format!(
        r#"global
    maxconn 1000
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend web
    bind 0.0.0.0:{PORT} accept-proxy
    bind [::]:{PORT} v6only accept-proxy
    http-request return status 200 content-type text/plain lf-string "{name} %[src] %[src_port]\n" if {{ path / }}
    default_backend files
backend files
    server nginx 127.0.0.1:80
"#
    )
}
