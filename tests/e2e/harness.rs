//! What every scenario starts from.

use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lab::config::Config;
use lab::network::{self, VIP};
use lab::programs::{self, Nginx};
use lab::{Balancer, Binaries, Network};

/// A network with web servers running on every backend, and the turn to use both cores.
pub(crate) struct Rig {
    pub(crate) web: Vec<Nginx>,
    pub(crate) network: Network,
    pub(crate) binaries: Binaries,
    _turn: MutexGuard<'static, ()>,
}

/// Port 80 of the VIP.
pub(crate) const WEB: SocketAddrV4 = SocketAddrV4::new(VIP, 80);

impl Rig {
    pub(crate) fn new(clients: u8, backends: u8) -> Self {
        let turn = take_turn();
        let binaries = Binaries::beside(Path::new(env!("CARGO_BIN_EXE_shuntd"))).unwrap();
        let network = Network::new(clients, backends).unwrap();
        let web = network.backends.iter().map(|host| programs::nginx(&network, host).unwrap());
        let web = web.collect();
        Self { web, network, binaries, _turn: turn }
    }

    /// A configuration with one web service over the backends given with their weights.
    pub(crate) fn web_config(
        &self,
        workers: usize,
        scheduler: &str,
        backends: &[(u8, u32)],
    ) -> Config {
        let backends: Vec<_> =
            backends.iter().map(|&(number, weight)| (web(number), weight)).collect();
        Config::new(&self.network, workers).with_service("web", "tcp", 80, scheduler, &backends)
    }

    pub(crate) fn start(&self, config: Config) -> Balancer<'_> {
        Balancer::start(&self.network, &self.binaries, config).unwrap()
    }

    /// Names of the network interfaces in the balancer's namespace.
    pub(crate) fn balancer_interfaces(&self) -> String {
        self.network.balancer.ip("-brief link show").unwrap()
    }
}

/// Port 80 of a backend, from 1.
pub(crate) fn web(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(network::backend_address(number), 80)
}

/// One scenario at a time, also under `cargo test`, where tests are threads of one process.
fn take_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
