//! Sockets of checks.
//!
//! They end with a reset (`SO_LINGER` 0). A check that closes first would otherwise leave a TIME-WAIT
//! behind for a minute: 5,000 checks every two seconds are 150,000 of them. Backends see what a client that
//! goes away looks like; one that has not accepted the connection yet never sees it at all.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::Failure;

/// A connection.
pub(super) async fn connect(target: SocketAddr) -> Result<TcpStream, Failure> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_zero_linger()?;
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A socket for datagrams to this address and from it: ICMP errors come as errors.
pub(super) async fn datagrams(target: SocketAddr) -> Result<UdpSocket, Failure> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket)
}
