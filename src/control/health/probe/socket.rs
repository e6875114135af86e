//! Sockets of checks.
//!
//! They end with a reset (`SO_LINGER` 0). A check that closes first would otherwise leave a TIME-WAIT
//! behind for a minute: 5,000 checks every two seconds are 150,000 of them. Backends see what a client that
//! goes away looks like; one that has not accepted the connection yet never sees it at all.
//!
//! One that asks a VIP is marked for the kernel's rules, speaks from our address towards its backend, and is known
//! by its port before it says a word ([`crate::control::punt::aim`]).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::Failure;
use crate::control::punt::aim::{Aim, Aims, Flow, MARK, SAID_MAX};
use crate::wire::ipv4::{TCP, UDP};

/// UDP knows no longer ones.
const DATAGRAM_MAX: usize = 64 * 1024;

/// Where a check goes.
pub(super) struct Road<'a> {
    /// Who is asked.
    pub(super) target: SocketAddr,
    /// To whom that goes if it is a VIP, and for how long.
    pub(super) aim: Option<(&'a Aims, Aim, Duration)>,
}

impl Road<'_> {
    /// The address it speaks from.
    fn source(&self) -> Result<SocketAddr, Failure> {
        let any: IpAddr = match self.target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let Some((aims, aim, _)) = self.aim else { return Ok((any, 0).into()) };
        let vip = self.target.ip();
        if !aims.is_open(vip) {
            let why = format!(
                "no way out to {vip}: a port needs an address of its family besides, or the kernel's rules for checks of \
                 VIPs are not there, and the log says why"
            );
            return Err(Failure::NotRun(why));
        }
        let way = aims.way(aim.backend).ok_or(Failure::Unreachable)?;
        if way.our_address.is_unspecified() {
            let why = format!("no address of our own towards {}", aim.backend);
            return Err(Failure::NotRun(why));
        }
        Ok((way.our_address, 0).into())
    }

    /// What comes from that address of ours goes where it is aimed.
    fn announce(&self, protocol: u8, source: SocketAddr) {
        if let Some((aims, aim, time)) = self.aim {
            aims.take(Flow { protocol, source, target: self.target }, aim, time);
        }
    }
}

/// A connection.
pub(super) async fn connect(road: &Road<'_>) -> Result<TcpStream, Failure> {
    let target = road.target;
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_zero_linger()?;
    if road.aim.is_some() {
        let options = SockRef::from(&socket);
        options.set_mark(MARK)?;
        options.set_tcp_mss(SAID_MAX.into())?;
        socket.bind(road.source()?)?;
        road.announce(TCP, socket.local_addr()?);
    }
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A socket for datagrams to this address and from it: ICMP errors come as errors.
pub(super) async fn datagrams(road: &Road<'_>) -> Result<UdpSocket, Failure> {
    let socket = UdpSocket::bind(road.source()?).await?;
    if road.aim.is_some() {
        SockRef::from(&socket).set_mark(MARK)?;
        road.announce(UDP, socket.local_addr()?);
    }
    socket.connect(road.target).await?;
    Ok(socket)
}

/// The first datagram that `judge` has an answer to. While none comes nothing is held for it: of thousands of checks that
/// wait only the one that reads has room for a datagram, whatever its length.
///
/// # Errors
///
/// What ICMP says of the address, above all that nobody listens there. That is news of its own kind: it makes a socket
/// neither readable nor, for who waits for that alone, awake.
pub(super) async fn hear<T>(
    socket: &UdpSocket,
    mut judge: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<T> {
    let nothing = || io::Error::from(io::ErrorKind::WouldBlock);
    loop {
        socket.ready(Interest::READABLE | Interest::ERROR).await?;
        let told = socket.try_io(Interest::ERROR, || socket.take_error()?.ok_or_else(nothing));
        if let Some(error) = none_yet(told)? {
            return Err(error);
        }
        let mut datagram = Vec::with_capacity(DATAGRAM_MAX);
        let heard = none_yet(socket.try_recv_buf(&mut datagram))?;
        if let Some(answer) = heard.and_then(|_| judge(&datagram)) {
            return Ok(answer);
        }
    }
}

/// `None` for what is not there yet.
fn none_yet<T>(tried: io::Result<T>) -> io::Result<Option<T>> {
    match tried {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::neighbors::{View, Way};
    use crate::dataplane::snapshot::NextHop;
    use crate::ids::PortId;
    use crate::wire::Mac;

    #[test]
    fn a_vip_without_a_way_out_fails_its_own_checks_and_no_others() {
        let backend = IpAddr::from([10, 44, 0, 11]);
        let ours = IpAddr::from([10, 44, 0, 1]);
        let next_hop = NextHop { port: PortId(1), source: Mac([2; 6]), destination: Mac([4; 6]) };
        let way = Way { next_hop, our_address: ours };
        let aims = Aims::default();
        aims.follow(Arc::new(View { ways: [(backend, way)].into(), ..View::default() }));
        let (open, closed) = (IpAddr::from([198, 51, 100, 10]), IpAddr::from([198, 51, 100, 11]));
        aims.open([open].into());
        let aim = Some((&aims, Aim { backend, encapsulation: None }, Duration::ZERO));
        let source = |vip: IpAddr| Road { target: (vip, 80).into(), aim }.source();
        assert_eq!(source(open), Ok((ours, 0).into()));
        let said = source(closed).unwrap_err().to_string();
        assert!(said.starts_with("not run: no way out to 198.51.100.11: "), "{said}");
        aims.open([open, closed].into());
        assert_eq!(source(closed), Ok((ours, 0).into()));
    }
}
