//! Listening sockets: one per worker and address, sharing the port.
//!
//! With `SO_REUSEPORT` the kernel spreads connections over the workers without a lock, and a new
//! process may bind the same port while the old one still serves: that is how a deployment hands
//! over without refusing a connection. The price is that a second gateway started by mistake shares
//! the port, too.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Binds `count` sockets to `address`; where they listen, if the system chose the port.
pub(crate) fn bind(
    address: SocketAddr,
    count: usize,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = socket(address)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(socket(bound)?);
    }
    Ok((bound, sockets))
}

fn socket(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections that the kernel holds until they are accepted; it caps this at `somaxconn`.
const BACKLOG: i32 = 4096;
