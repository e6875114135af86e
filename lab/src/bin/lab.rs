//! `lab`: the lab's own clients and servers, and its broom. The tests start it inside hosts.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use lab::agent::{decap, dns, forge, load, pieces, sctp, udp, vlan};
use lab::{Network, cleanup, programs};

/// Clients and servers for the lab's hosts, and the removal of what dead ones left behind.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Remove namespaces, folders and DPDK files of lab processes that no longer live.
    Clean,
    /// Make a network with two clients and three web servers, and hold it until Ctrl-C: to try
    /// things by hand.
    Hold,
    /// Ask an HTTP server and print a report as JSON. SIGTERM ends it early, in order.
    Load {
        /// Address and port.
        target: SocketAddr,
        /// Requests in all.
        #[arg(long, default_value_t = u64::MAX)]
        requests: u64,
        /// Requests under way at once.
        #[arg(long, default_value_t = 1)]
        threads: u64,
        /// Many requests on each connection, instead of one.
        #[arg(long)]
        keep_alive: bool,
        /// Source port of the first connection; the others have those after it.
        #[arg(long)]
        first_port: Option<u16>,
        /// Stop after so many seconds.
        #[arg(long, default_value_t = 60)]
        seconds_max: u64,
        /// Pause between the requests of a thread.
        #[arg(long, default_value_t = 0)]
        pause_ms: u64,
    },
    /// Ask a UDP echo from many source ports and print a report as JSON.
    UdpLoad {
        /// Address and port.
        target: SocketAddr,
        /// Source ports.
        #[arg(long, default_value_t = 100)]
        sources: u32,
        /// Questions from each.
        #[arg(long, default_value_t = 1)]
        rounds: u32,
        /// Bytes of each question.
        #[arg(long, default_value_t = 64)]
        size: usize,
    },
    /// Ask a UDP echo with datagrams in pieces and print a report as JSON.
    Pieces {
        /// Address and port.
        target: SocketAddr,
        /// Order of the pieces.
        #[arg(long, default_value = "forward")]
        order: pieces::Order,
        /// Datagrams.
        #[arg(long, default_value_t = 1)]
        count: u16,
        /// Bytes of each datagram.
        #[arg(long, default_value_t = 4000)]
        size: usize,
        /// Bytes of data in a piece.
        #[arg(long, default_value_t = 1200)]
        piece: usize,
    },
    /// Answer datagrams with this name, the source address and the question.
    Echo {
        /// Its name in answers.
        name: String,
        /// Addresses and ports.
        #[arg(required = true)]
        listen: Vec<SocketAddr>,
        /// Each begins with a PROXY protocol header, whose source is the one to tell.
        #[arg(long)]
        proxy: bool,
    },
    /// Answer SCTP associations with this name, the source and the question.
    SctpEcho {
        /// Its name in answers.
        name: String,
        /// Address and port.
        listen: SocketAddr,
    },
    /// Ask that once, in an association of its own, and print the answer.
    Sctp {
        /// Address and port.
        target: SocketAddr,
        /// Source port.
        #[arg(long)]
        from: u16,
        /// What to ask.
        question: String,
    },
    /// Send one SYN with a TCP option that claims another client's address.
    Forge {
        /// Address and port.
        target: SocketAddrV4,
        /// Source port.
        #[arg(long)]
        from: u16,
        /// The address to claim.
        #[arg(long)]
        claim: SocketAddrV4,
    },
    /// Take packets out of a tunnel and into this host's stack; say what is wrong with them.
    Decap {
        /// What they are inside of.
        kind: decap::Kind,
        /// The outer source address they must have.
        #[arg(long)]
        from: IpAddr,
        /// The family of what is inside.
        #[arg(long, default_value = "ipv4")]
        inner: decap::Inner,
        /// The TUN device to make.
        #[arg(long, default_value = decap::DEVICE)]
        device: String,
        /// UDP port of GUE.
        #[arg(long, default_value_t = 6080)]
        port: u16,
        /// The outer UDP or GRE checksum must be there, and right; else it must not be there.
        #[arg(long)]
        checksum: bool,
    },
    /// Make an interface whose frames leave with VLAN tags by another, and come in that way.
    Vlan {
        /// The interface to make.
        interface: String,
        /// The one with the tags, to be made too.
        trunk: String,
        /// One VID, or two: the outer tag's first.
        vids: Vec<u16>,
        /// MTU of the interface.
        #[arg(long, default_value_t = 1500)]
        mtu: u16,
    },
    /// Answer every DNS question with the address it listens at.
    Dns {
        /// Address and port.
        listen: SocketAddrV4,
    },
}

fn main() -> Result<()> {
    run(Arguments::parse().task).inspect_err(|_| cleanup::park_if_stopping())
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Hold => hold(),
        Task::Clean => {
            let removed = cleanup::remove_leftovers();
            for what in &removed {
                println!("removed {what}");
            }
            println!("{} leftovers removed", removed.len());
            Ok(())
        }
        Task::Load { target, requests, threads, keep_alive, first_port, seconds_max, pause_ms } => {
            let time_limit = Duration::from_secs(seconds_max);
            let pause = Duration::from_millis(pause_ms);
            load::run(load::Plan {
                target,
                requests,
                threads,
                keep_alive,
                first_port,
                time_limit,
                pause,
            })?
            .print()
        }
        Task::UdpLoad { target, sources, rounds, size } => {
            udp::load(target, sources, rounds, size)?.print()
        }
        Task::Pieces { target, order, count, size, piece } => {
            pieces::run(pieces::Plan { target, count, size, piece, order })?.print()
        }
        Task::Echo { name, listen, proxy } => udp::echo(&name, &listen, proxy),
        Task::SctpEcho { name, listen } => sctp::serve(&name, listen),
        Task::Sctp { target, from, question } => {
            println!("{}", sctp::ask(target, from, &question)?);
            Ok(())
        }
        Task::Forge { target, from, claim } => forge::syn(target, from, claim),
        Task::Decap { kind, inner, from, port, checksum, device } => {
            decap::run(decap::Tunnel { kind, inner, from, port, checksum }, &device)
        }
        Task::Vlan { interface, trunk, vids, mtu } => {
            vlan::run(&vlan::Vlan { interface, trunk, mtu, vids })
        }
        Task::Dns { listen } => dns::serve(listen),
    }
}

/// Ends by a signal, or with an error if a server ends by itself.
fn hold() -> Result<()> {
    let network = Network::new(2, 3)?;
    let mut servers = network
        .backends
        .iter()
        .map(|host| programs::nginx(&network, host))
        .collect::<Result<Vec<_>>>()?;
    let hosts = network.clients.iter().chain([&network.balancer]).chain(&network.backends);
    hosts.for_each(|host| println!("ip netns exec {} bash", host.namespace()));
    println!("held until Ctrl-C");
    loop {
        for server in &mut servers {
            ensure!(server.program.is_running(), "{}", server.program.tail());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
