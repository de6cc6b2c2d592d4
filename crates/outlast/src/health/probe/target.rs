//! A host and a port, and whether somebody accepts connections there.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use ::http::uri::Authority;
use outlast_core::config::ConfigError;
use tokio::net::TcpStream;

use super::Probing;
use super::blocking::Blocking;

/// Whether a TCP connection can be made to `HOST:PORT`.
///
/// # Errors
/// If `address` has another form.
pub fn tcp(address: &str) -> Result<impl Fn() -> Probing + Send + Sync + use<>, ConfigError> {
    let wrong = ConfigError::new("health.tcp", "must be like host:5672 or [::1]:5672");
    let authority: Authority = address.parse().map_err(|_| wrong)?;
    let target = Target::of(&authority, None).ok_or(wrong)?;
    let target = Arc::new(target);
    Ok(move || -> Probing {
        let target = Arc::clone(&target);
        Box::pin(async move { target.connect().await.map(drop) })
    })
}

/// Where a connection goes. It is looked up anew each time.
pub(super) struct Target {
    host: String,
    port: u16,
    resolver: Blocking,
}

impl Target {
    /// The host and port of an authority without user and password; `None` if it has either or
    /// no port and there is no usual one.
    pub(super) fn of(authority: &Authority, usual: Option<u16>) -> Option<Target> {
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let given = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
            None => None,
            Some(_) => Some(authority.port_u16()?),
        };
        Some(Target {
            host: Some(host.to_owned()).filter(|host| !host.is_empty())?,
            port: given.or(usual).filter(|&port| port != 0)?,
            resolver: Blocking::default(),
        })
    }

    /// Tries the addresses one after the other.
    pub(super) async fn connect(&self) -> Result<TcpStream, String> {
        let mut failed = format!("{} has no address", self.host);
        for address in self.addresses().await? {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = format!("connecting to {address}: {error}"),
            }
        }
        Err(failed)
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let name = (self.host.clone(), self.port);
        let look_up = move || {
            name.to_socket_addrs()
                .map(|found| found.take(MOST).collect())
        };
        let found = self.resolver.ask(look_up).await?;
        found.map_err(|error| format!("looking up {}: {error}", self.host))
    }
}

/// Addresses of a name that are tried.
const MOST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read_strictly() {
        let read = |text: &str| {
            let target = Target::of(&text.parse().ok()?, Some(80))?;
            Some((target.host, target.port))
        };
        let at = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(read("db:5432"), at("db", 5432));
        assert_eq!(read("db"), at("db", 80));
        assert_eq!(read("[::1]:9"), at("::1", 9));
        assert_eq!(read("10.0.0.7:9"), at("10.0.0.7", 9));
        for wrong in [
            "db:",
            "db:99999",
            "db:0",
            "db:x",
            "user@db:1",
            ":1",
            "a b:1",
            "",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(tcp("db").is_err(), "there is no usual port");
    }
}
