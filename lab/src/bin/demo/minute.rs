//! Step 6: a minute on which an operator is glad of the balancer, with what they type.
//!
//! ```text
//! backend-2 loses power ─► its check times out ─► down ─► its connections ended ─► back ─► slow start
//! backend-3 is wanted for maintenance ─► drained, with a deadline ─► restarted ─► back at work
//! ```
//!
//! Short requests run all the time. Every line after `balancer#` is run as it stands, in a shell on the
//! balancer's host, and what it prints is shown. A request that was under way towards a machine that
//! dies cannot be saved; the step fails if any other failed.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use lab::agent::report::{Report, Window};
use lab::network::backend_address;
use lab::programs::{self, Nginx};
use lab::{Balancer, Binaries, Network, Program, wait};
use serde_json::Value;

use super::{WEB, backend, print_load, say};

/// Requests under way at once.
const THREADS: &str = "8";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// The lab's clients stop by themselves after this, if the demo does not stop them.
const LOAD_SECONDS_MAX: &str = "110";

/// What is added to the file, below the service.
const HEALTH: &str = "\
[service.health]
slow_start_s = 10
[[service.check]]
kind = \"http\"
interval_ms = 1000
fast_interval_ms = 500
timeout_ms = 1000
fall = 2
";

/// What the minute is about: the daemon, and the hosts around it.
struct Minute<'a, 'network> {
    network: &'network Network,
    balancer: &'a mut Balancer<'network>,
}

/// Carries it out; `servers` are those of the backends, in order.
pub(super) fn minute<'network>(
    network: &'network Network,
    binaries: &Binaries,
    balancer: &mut Balancer<'network>,
    servers: &mut [Nginx],
) -> Result<()> {
    say("6. A minute of an operator's: a backend dies and comes back, another is drained");
    let mut minute = Minute { network, balancer };
    minute.check_them_all()?;
    let arguments = ["--threads", THREADS, "--pause-ms", "5", "--seconds-max", LOAD_SECONDS_MAX];
    let mut load = programs::load(network, binaries, &network.clients[1], WEB, &arguments)?;
    let unnoticed = minute.one_dies()?;
    minute.it_comes_back()?;
    let server = servers.get_mut(2).context("three backends")?;
    minute.another_is_maintained(server)?;
    let report = end(&mut load)?;
    judge(&report, unnoticed)
}

/// Ends the load and tells what became of its requests.
fn end(load: &mut Program) -> Result<Report> {
    let report = programs::stop_load(load)?;
    print_load("short connections over the whole minute", &report);
    Ok(report)
}

fn judge(report: &Report, unnoticed: Window) -> Result<()> {
    let others = report.failed_outside(&[unnoticed]);
    let lost = report.failures.len() - others;
    println!(
        "  failed requests: {lost} under way to backend-2 when it died, or before that was noticed"
    );
    println!("  failed requests: {others} of all others");
    ensure!(report.ok > 100, "the load was no load: {report:?}");
    ensure!(others == 0, "requests failed that need not: {:?}", report.errors);
    Ok(())
}

impl Minute<'_, '_> {
    /// All four backends serve, with a check and a slow start.
    fn check_them_all(&mut self) -> Result<()> {
        let mut config = self.balancer.config.clone();
        for number in 1..=4 {
            config.set_backend("web", backend(number, 80), 1)?;
        }
        let web = config.service.iter_mut().find(|service| service.name == "web");
        web.context("a service called web")?.more = HEALTH.replace("service.", "").parse()?;
        println!("  in shunt.toml, below the service:");
        HEALTH.lines().for_each(|line| println!("    {line}"));
        config.write(&self.network.folder().join("shunt.toml"))?;
        self.types("shunt reload")?;
        self.balancer.config = config;
        for number in 1..=4 {
            self.wait_until(number, "up", |health| health["state"] == "up")?;
        }
        self.types("shunt backends --service web")
    }

    /// Returns from when to when it was dead and not every worker knew.
    fn one_dies(&mut self) -> Result<Window> {
        println!("  backend-2 loses power: nobody is told, and nothing answers");
        let (died, clock) = (SystemTime::now(), Instant::now());
        self.network.unplug(2)?;
        self.wait_until(2, "down", |health| health["state"] == "down")?;
        self.balancer.wait_for_workers()?;
        let noticed = SystemTime::now();
        println!("  noticed {:.1} s later:", clock.elapsed().as_secs_f64());
        self.log_says("is down")?;
        self.wait_for_none(2)?;
        println!(
            "  its connections have been ended, {:.1} s later:",
            clock.elapsed().as_secs_f64()
        );
        self.types(&format!("shunt connections --service web --backend {}", backend_address(2)))?;
        self.types("shunt backends --service web")?;
        Ok((died, noticed))
    }

    fn it_comes_back(&mut self) -> Result<()> {
        println!("  backend-2 has power again");
        self.network.plug_in(2)?;
        self.wait_until(2, "up", |health| health["state"] == "up")?;
        self.log_says("is up")?;
        println!("  its share of new connections grows, for caches to fill:");
        for percent in [25, 60] {
            let rises = |health: &Value| share(health) >= percent;
            self.wait_until(2, "back in part", rises)?;
            self.types("shunt backends --service web")?;
        }
        self.wait_until(2, "back", |health| share(health) >= 100)?;
        self.types("shunt rates --interval 2 | grep -E '^(service|web)'")
    }

    fn another_is_maintained(&mut self, server: &mut Nginx) -> Result<()> {
        println!("  backend-3 is wanted for maintenance");
        let address = backend_address(3);
        self.types(&format!("shunt drain web {address} --deadline 30s --wait"))?;
        self.types("shunt backends --service web")?;
        println!("  nobody is left on it: nginx there is stopped, and another started");
        server.program.kill();
        *server = programs::nginx(self.network, &self.network.backends[2])?;
        self.types(&format!("shunt undrain web {address}"))?;
        self.wait_until(3, "back", |health| share(health) >= 100)?;
        self.types("shunt backends --service web")
    }

    /// Runs a line on the balancer and shows it with what it prints.
    fn types(&self, line: &str) -> Result<()> {
        println!("  balancer# {line}");
        let said = self.balancer.typed(line)?;
        said.lines().for_each(|line| println!("    {line}"));
        Ok(())
    }

    /// The last thing the daemon's log says with these words.
    fn log_says(&self, words: &str) -> Result<()> {
        let log = self.balancer.program.stderr();
        let is_it = |line: &&str| line.contains(words) && line.contains("service=\"web\"");
        let line = log.lines().rfind(is_it);
        let line = line.with_context(|| format!("the log does not say that it {words}"))?;
        println!("    {line}");
        Ok(())
    }

    fn wait_until(&self, number: u8, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
        let what = format!("backend-{number} to be {what}");
        wait::until_true(&what, PATIENCE, || Ok(is_so(&self.health(number)?)))
    }

    fn wait_for_none(&self, number: u8) -> Result<()> {
        let what = format!("backend-{number} to have no connections");
        wait::until_true(&what, PATIENCE, || Ok(self.backend(number)?["connections"] == 0))
    }

    fn health(&self, number: u8) -> Result<Value> {
        Ok(self.backend(number)?["health"].take())
    }

    /// What `shunt services --json` has of a backend of web.
    fn backend(&self, number: u8) -> Result<Value> {
        let address = backend(number, 80).to_string();
        let all = self.balancer.shunt_json("backends")?;
        let mut all = all["backends"].as_array().into_iter().flatten();
        let found = all.find(|it| it["service"] == "web" && it["address"] == address.as_str());
        found.cloned().with_context(|| format!("web has no backend {address}"))
    }
}

/// Percent of what it would get for good; 0 while it is down.
fn share(health: &Value) -> u64 {
    if health["state"] != "up" {
        return 0;
    }
    health["share_percent"].as_u64().unwrap_or(100)
}
