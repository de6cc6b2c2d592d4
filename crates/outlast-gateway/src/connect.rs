//! Connecting to an endpoint: name, TCP, TLS, and what was agreed to be spoken.
//!
//! Whatever fails here has sent nothing of any request, so another attempt is always allowed. All
//! of it shares one time limit.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use outlast_config::plan::Endpoint;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls;

/// Where and how to connect.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    endpoint: Endpoint,
    address: Option<IpAddr>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    timeout: Duration,
}

impl Dial {
    /// An error names the endpoint.
    pub(crate) fn new(
        endpoint: &Endpoint,
        tls: Option<&Arc<ClientConfig>>,
        server_name: Option<&str>,
        timeout: Duration,
    ) -> Result<Dial, String> {
        let host = endpoint.host.trim_matches(['[', ']']);
        let tls = match tls.filter(|_| endpoint.tls) {
            None => None,
            Some(config) => {
                let name = server_name.unwrap_or(host).to_owned();
                let name = ServerName::try_from(name.clone()).map_err(|_| {
                    format!("endpoint {}: {name:?} is no server name", endpoint.name)
                })?;
                Some((Arc::clone(config), name))
            }
        };
        Ok(Dial {
            address: endpoint.address.or(host.parse().ok()),
            endpoint: endpoint.clone(),
            tls,
            timeout,
        })
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Stream, ConnectError> {
        match tokio::time::timeout(self.timeout, self.connect_unbounded()).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::TimedOut(self.timeout)),
        }
    }

    async fn connect_unbounded(&self) -> Result<Stream, ConnectError> {
        let tcp = self.tcp().await?;
        let _ = tcp.set_nodelay(true);
        let Some((config, name)) = &self.tls else {
            return Ok(Stream::Plain(tcp));
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let tls = connector.connect(name.clone(), tcp).await;
        Ok(Stream::Tls(Box::new(tls.map_err(ConnectError::Tls)?)))
    }

    async fn tcp(&self) -> Result<TcpStream, ConnectError> {
        let port = self.endpoint.port;
        if let Some(address) = self.address {
            let address = SocketAddr::new(address, port);
            return TcpStream::connect(address).await.map_err(ConnectError::Tcp);
        }
        let found = tokio::net::lookup_host((self.endpoint.host.as_str(), port)).await;
        let mut failure = ConnectError::NoAddress;
        for address in found.map_err(ConnectError::Name)? {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = ConnectError::Tcp(error),
            }
        }
        Err(failure)
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Name(io::Error),
    NoAddress,
    Tcp(io::Error),
    Tls(io::Error),
    TimedOut(Duration),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Name(error) => write!(f, "the name could not be resolved: {error}"),
            ConnectError::NoAddress => f.write_str("the name has no address"),
            ConnectError::Tcp(error) => write!(f, "could not connect: {error}"),
            ConnectError::Tls(error) => write!(f, "the TLS handshake failed: {error}"),
            ConnectError::TimedOut(limit) => write!(f, "no connection within {limit:?}"),
        }
    }
}

impl Error for ConnectError {}

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether HTTP/2 was agreed on.
    pub(crate) fn agreed_on_http2(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(tls::H2),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
