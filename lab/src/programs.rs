//! Real programs, started or run in hosts, and what they print read back.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::agent::report::Report;
use crate::agent::{decap, sctp, vlan};
use crate::{Binaries, Host, Network, Program, command};

/// How long a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A transfer that does not begin, or stands still, has failed.
const CURL_STALLED: [&str; 6] =
    ["--connect-timeout", "4", "--speed-limit", "1000", "--speed-time", "6"];

/// A running web server: answers `/` with its name and the source it saw, serves files from a
/// folder of its own, and takes uploads by PUT into it.
#[derive(Debug)]
pub struct Nginx {
    /// The process.
    pub program: Program,
    /// What it serves and stores.
    pub folder: PathBuf,
}

/// Starts nginx on a host, at port 80 of every address and, for clients that begin with a PROXY
/// protocol header, at port 8180, and waits until it answers.
pub fn nginx(network: &Network, host: &Host) -> Result<Nginx> {
    let what = format!("nginx-{}", host.name());
    let folder = network.folder().join(&what);
    let files = folder.join("files");
    fs::create_dir_all(&files)?;
    let config = folder.join("nginx.conf");
    fs::write(&config, nginx_config(host.name(), &folder))?;
    let mut command = host.command("nginx");
    command.arg("-p").arg(&folder).arg("-c").arg(&config);
    let mut program = Program::start(network, &what, command)?;
    program.wait_until_ready(START_TIMEOUT, |_| is_listening(host, "tcp", 80))?;
    Ok(Nginx { program, folder: files })
}

/// One process in the foreground, everything it writes below `folder`.
fn nginx_config(name: &str, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    keepalive_requests 10000000;
    keepalive_timeout 300s;
    server {{
        listen 80 backlog=4096;
        listen [::]:80 backlog=4096;
        location = / {{ default_type text/plain; return 200 "{name} $remote_addr $remote_port\n"; }}
        location / {{ root {folder}/files; dav_methods PUT; }}
    }}
    server {{
        listen 8180 proxy_protocol;
        listen [::]:8180 proxy_protocol;
        location = / {{
            default_type text/plain;
            return 200 "{name} $proxy_protocol_addr $proxy_protocol_port $remote_addr\n";
        }}
        location / {{ root {folder}/files; dav_methods PUT; }}
    }}
}}
"#
    )
}

/// Starts the lab's UDP echo on a host, for IPv4.
pub fn udp_echo(network: &Network, binaries: &Binaries, host: &Host, port: u16) -> Result<Program> {
    udp_echo_at(network, binaries, host, port, &[Ipv4Addr::UNSPECIFIED.into()], &[])
}

/// Starts the lab's UDP echo on a host at a port of these addresses. `arguments` are those of
/// `lab echo`.
pub fn udp_echo_at(
    network: &Network,
    binaries: &Binaries,
    host: &Host,
    port: u16,
    addresses: &[IpAddr],
    arguments: &[&str],
) -> Result<Program> {
    let what = format!("echo-{port}-{}", host.name());
    let mut command = host.command(&binaries.lab);
    command.arg("echo").arg(host.name()).args(arguments);
    command.args(addresses.iter().map(|address| SocketAddr::new(*address, port).to_string()));
    let mut program = Program::start(network, &what, command)?;
    program.wait_until_ready(START_TIMEOUT, |_| is_listening(host, "udp", port))?;
    Ok(program)
}

/// Starts the lab's SCTP server on a host.
pub fn sctp_echo(
    network: &Network,
    binaries: &Binaries,
    host: &Host,
    listen: SocketAddr,
) -> Result<Program> {
    let family = if listen.is_ipv4() { 4 } else { 6 };
    let what = format!("sctp-{family}-{}-{}", listen.port(), host.name());
    let mut command = host.command(&binaries.lab);
    command.arg("sctp-echo").arg(host.name()).arg(listen.to_string());
    let mut program = Program::start(network, &what, command)?;
    let ready = |program: &Program| Ok(program.stdout().contains(sctp::READY));
    program.wait_until_ready(START_TIMEOUT, ready)?;
    Ok(program)
}

/// One question to it, in an association of its own from this port; the answer.
pub fn sctp(
    binaries: &Binaries,
    client: &Host,
    target: SocketAddr,
    from: u16,
    question: &str,
) -> Result<String> {
    let mut command = client.command(&binaries.lab);
    let from = from.to_string();
    command.arg("sctp").arg(target.to_string()).args(["--from", &from, question]);
    Ok(command::run(&mut command)?.trim_end().to_owned())
}

/// Whether so many pings are all answered by this address; an error if only some are.
pub fn ping(client: &Host, target: IpAddr, count: u32) -> Result<bool> {
    let (count, target) = (count.to_string(), target.to_string());
    let mut command = client.command("ping");
    let output =
        command::output(command.args(["-n", "-c", &count, "-i", "0.05", "-W", "0.5", &target]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains(&format!("{count} packets transmitted, {count} received")) {
        return Ok(true);
    }
    if !text.contains(&format!("{count} packets transmitted, 0 received")) {
        bail!("{text}");
    }
    Ok(false)
}

/// What `tracepath` says about the way to a UDP port: a line for each hop, and the path MTU.
pub fn tracepath(client: &Host, target: SocketAddr) -> Result<String> {
    let (address, port) = (target.ip().to_string(), target.port().to_string());
    client.run("tracepath", &["-n", "-m", "4", "-p", &port, &address])
}

/// Starts the lab's name server on a host that has this address.
pub fn dns(
    network: &Network,
    binaries: &Binaries,
    host: &Host,
    address: Ipv4Addr,
) -> Result<Program> {
    let what = format!("dns-{}", host.name());
    let mut command = host.command(&binaries.lab);
    command.arg("dns").arg(format!("{address}:53"));
    let mut program = Program::start(network, &what, command)?;
    program.wait_until_ready(START_TIMEOUT, |_| is_listening(host, "udp", 53))?;
    Ok(program)
}

/// Starts the far end of a tunnel on a backend; packets must come from this address. What it finds
/// wrong with any is on its standard error. `arguments` are those of `lab decap`.
pub fn decap(
    network: &Network,
    binaries: &Binaries,
    host: &Host,
    from: impl Into<IpAddr>,
    arguments: &[&str],
) -> Result<Program> {
    let what = format!("decap-{}-{}", host.name(), arguments.join("-"));
    let mut command = host.command(&binaries.lab);
    command.args(["decap", "--from"]).arg(from.into().to_string()).args(arguments);
    let mut program = Program::start(network, &what, command)?;
    let ready = |program: &Program| Ok(program.stdout().contains(decap::READY));
    program.wait_until_ready(START_TIMEOUT, ready)?;
    let device = arguments.windows(2).find(|pair| pair[0] == "--device").map(|pair| pair[1]);
    host.speak_ipv6(device.unwrap_or(decap::DEVICE))?;
    Ok(program)
}

/// Name of the interface [`vlan`] makes for these tags: `vlan200.100`.
pub fn vlan_interface(vids: &[u16]) -> String {
    let vids: Vec<String> = vids.iter().map(u16::to_string).collect();
    format!("vlan{}", vids.join("."))
}

/// Puts a client on a VLAN of its LAN, outer VID first: an interface called [`vlan_interface`].
pub fn vlan(
    network: &Network,
    binaries: &Binaries,
    host: &Host,
    vids: &[u16],
    mtu: u16,
) -> Result<Program> {
    let interface = vlan_interface(vids);
    let trunk = interface.replace("vlan", "trunk");
    let mut command = host.command(&binaries.lab);
    command.args(["vlan", &interface, &trunk, "--mtu", &mtu.to_string()]);
    command.args(vids.iter().map(u16::to_string));
    let what = format!("{interface}-{}", host.name());
    let mut program = Program::start(network, &what, command)?;
    let ready = |program: &Program| Ok(program.stdout().contains(vlan::READY));
    program.wait_until_ready(START_TIMEOUT, ready)?;
    network.plug_into_clients(host, &trunk)?;
    Ok(program)
}

/// Starts an iperf3 server on a host, at its usual port 5201.
pub fn iperf3_server(network: &Network, host: &Host) -> Result<Program> {
    let what = format!("iperf3-{}", host.name());
    let mut command = host.command("iperf3");
    command.arg("-s");
    let mut program = Program::start(network, &what, command)?;
    program.wait_until_ready(START_TIMEOUT, |_| is_listening(host, "tcp", 5201))?;
    Ok(program)
}

/// Megabits a second that `iperf3` got through, `reverse` for server to client.
pub fn iperf3(client: &Host, server: Ipv4Addr, seconds: u32, reverse: bool) -> Result<f64> {
    let (server, seconds) = (server.to_string(), seconds.to_string());
    let mut arguments = vec!["-J", "-c", &server, "-t", &seconds, "--connect-timeout", "3000"];
    arguments.extend(reverse.then_some("-R"));
    let text = client.run("iperf3", &arguments)?;
    let report: serde_json::Value = serde_json::from_str(&text)?;
    let bits =
        report.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64);
    Ok(bits.context("iperf3 reported no rate")? / 1e6)
}

/// Whether something on the host listens at this port: asked of its kernel, so that no stray
/// connection reaches the server.
pub(crate) fn is_listening(host: &Host, protocol: &str, port: u16) -> Result<bool> {
    let protocol = if protocol == "tcp" { "-tlnH" } else { "-ulnH" };
    let filter = format!("sport = :{port}");
    Ok(!host.run("ss", &[protocol, &filter])?.trim().is_empty())
}

/// One request by curl; the body. Anything but 200 and a whole body is an error.
pub fn curl(client: &Host, url: &str) -> Result<String> {
    client.run("curl", &["-sS", "--fail", "--connect-timeout", "4", "--max-time", "10", url])
}

/// So many requests by one curl process, a new connection for each; their bodies.
pub fn curl_many(client: &Host, url: &str, count: u32) -> Result<Vec<String>> {
    // `#[1-N]` is curl's own loop; the fragment is not sent.
    let looped = format!("{url}#[1-{count}]");
    let close = "Connection: close";
    let arguments = ["-sS", "--fail-early", "--fail", "--max-time", "30", "-H", close, &looped];
    Ok(client.run("curl", &arguments)?.lines().map(str::to_owned).collect())
}

/// [`curl_many`] with so many requests under way at once.
pub fn curl_at_once(client: &Host, url: &str, count: u32, at_once: u32) -> Result<Vec<String>> {
    let looped = format!("{url}#[1-{count}]");
    let parallel = ["--parallel", "--parallel-immediate", "--parallel-max", &at_once.to_string()]
        .map(str::to_owned);
    let mut curl = client.command("curl");
    curl.args(parallel).args(["-sS", "--fail-early", "--fail", "--max-time", "60"]);
    let text = command::run(curl.args(["-H", "Connection: close", &looped]))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Downloads to a file.
pub fn download(client: &Host, url: &str, file: &Path) -> Result<()> {
    let file = file.to_string_lossy();
    let curl = [&CURL_STALLED[..], &["-sS", "--fail", "--max-time", "120", "-o", &file, url]];
    client.run("curl", &curl.concat())?;
    Ok(())
}

/// Uploads a file by PUT.
pub fn upload(client: &Host, file: &Path, url: &str) -> Result<()> {
    let file = file.to_string_lossy();
    let curl = [&CURL_STALLED[..], &["-sS", "--fail", "--max-time", "120", "-T", &file, url]];
    client.run("curl", &curl.concat())?;
    Ok(())
}

/// A file's SHA-256, by `sha256sum`.
pub fn sha256(file: &Path) -> Result<String> {
    let line = command::run(std::process::Command::new("sha256sum").arg(file))?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}

/// The addresses `dig` gets for a name from a server; one question, no second try.
pub fn dig(client: &Host, server: Ipv4Addr, name: &str) -> Result<Vec<Ipv4Addr>> {
    let server = format!("@{server}");
    let text = client.run("dig", &[&server, "+short", "+tries=1", "+time=2", name, "A"])?;
    text.lines()
        .map(|line| line.parse().with_context(|| format!("dig answered {line:?}")))
        .collect()
}

/// Sends one datagram by socat; what came back within two seconds.
pub fn socat_udp(client: &Host, target: SocketAddrV4, message: &str) -> Result<String> {
    let address = format!("UDP4:{target}");
    let mut socat = client.command("socat");
    socat.args(["-t2", "-", &address]);
    command::run_with_input(&mut socat, message)
}

/// Starts the lab's HTTP load client; [`load_report`] ends it.
pub fn load(
    network: &Network,
    binaries: &Binaries,
    client: &Host,
    target: impl Into<SocketAddr>,
    arguments: &[&str],
) -> Result<Program> {
    let what = format!("load-{}", client.name());
    let mut command = client.command(&binaries.lab);
    command.arg("load").arg(target.into().to_string()).args(arguments);
    Program::start(network, &what, command)
}

/// Waits for the end of a load client and reads its report.
pub fn load_report(program: &mut Program, timeout: Duration) -> Result<Report> {
    Report::parse(&program.finish(timeout)?)
}

/// Asks a load client to end in order, and reads its report.
pub fn stop_load(program: &mut Program) -> Result<Report> {
    program.signal(rustix::process::Signal::TERM)?;
    load_report(program, Duration::from_secs(20))
}

/// What the lab's UDP load client reports.
pub fn udp_load(
    binaries: &Binaries,
    client: &Host,
    target: impl Into<SocketAddr>,
    arguments: &[&str],
) -> Result<Report> {
    let mut command = client.command(&binaries.lab);
    command.arg("udp-load").arg(target.into().to_string()).args(arguments);
    Report::parse(&command::run(&mut command)?)
}

/// What the lab's sender of pieces reports. `arguments` are those of `lab pieces`.
pub fn pieces(
    binaries: &Binaries,
    client: &Host,
    target: SocketAddr,
    arguments: &[&str],
) -> Result<Report> {
    let mut command = client.command(&binaries.lab);
    command.arg("pieces").arg(target.to_string()).args(arguments);
    Report::parse(&command::run(&mut command)?)
}

/// What `wrk` says at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrkReport {
    /// Requests answered.
    pub requests: u64,
    /// Connect, read, write and timeout errors, and answers other than 2xx and 3xx.
    pub failed: u64,
}

/// Starts `wrk` for so many seconds over so many lasting connections.
pub fn wrk(
    network: &Network,
    client: &Host,
    url: &str,
    seconds: u32,
    connections: u32,
) -> Result<Program> {
    let what = format!("wrk-{}", client.name());
    let mut command = client.command("wrk");
    command.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), url]);
    Program::start(network, &what, command)
}

/// Reads `wrk`'s last words.
pub fn wrk_report(text: &str) -> Result<WrkReport> {
    let mut report = WrkReport { requests: 0, failed: 0 };
    let mut seen = false;
    for line in text.lines().map(str::trim) {
        if let Some((count, _)) = line.split_once(" requests in ") {
            report.requests = count.parse()?;
            seen = true;
        } else if line.starts_with("Socket errors:") || line.starts_with("Non-2xx") {
            let numbers = line.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok());
            report.failed += numbers.sum::<u64>();
        }
    }
    if !seen {
        bail!("wrk printed no summary: {text}");
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_wrk_reports_is_counted() {
        let table = [
            ("  120 requests in 1.00s, 20.0KB read\n", WrkReport { requests: 120, failed: 0 }),
            (
                "  7 requests in 1.00s, 1KB read\n  Socket errors: connect 1, read 2, write 3, \
                 timeout 4\n  Non-2xx or 3xx responses: 5\n",
                WrkReport { requests: 7, failed: 15 },
            ),
        ];
        for (text, expected) in table {
            assert_eq!(wrk_report(text).unwrap(), expected, "{text}");
        }
        assert!(wrk_report("unable to connect").is_err());
    }
}
