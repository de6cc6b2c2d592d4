//! The process that runs the orders: a gateway of its own, so that it can be killed.
//!
//! It is this command again, `outlast demo --runner`, which nobody else has to know. It reads a line
//! that says where everything is, starts a gateway with the shop's policies, prints where operators
//! connect, and serves until its standard input ends: so it does not outlive the demo, however that
//! ends. `kill -9` is the real one, and the next process goes on by what the store says.

use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use outlast_config::plan::{Plan, Store};
use outlast_gateway::{Gateway, Options};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use super::shop::Shop;
use super::{at_free_ports, policies};
use crate::output;

/// The process, and where it listens.
pub(crate) struct Runner {
    /// What it is told: a line.
    orders: String,
    admin: watch::Sender<SocketAddr>,
    process: Child,
    /// It ends when this is closed.
    _alive: ChildStdin,
}

impl Runner {
    /// Starts it for a shop, with a store in this folder.
    pub(crate) async fn start(shop: &Shop, folder: &Path) -> io::Result<Runner> {
        let endpoints = policies().upstreams.into_iter().flat_map(|upstream| {
            let endpoints = upstream.endpoints.into_iter();
            endpoints.map(move |endpoint| (upstream.name.clone(), endpoint.name))
        });
        let ports: Map<String, Value> = endpoints
            .map(|(upstream, endpoint)| {
                let port = shop.behind(&upstream, &endpoint).address.port();
                (format!("{upstream}/{endpoint}"), json!(port))
            })
            .collect();
        let orders = format!(
            "{}\n",
            json!({ "store": folder.join("outlast.db"), "ports": ports })
        );
        let (process, alive, admin) = spawn(&orders).await?;
        Ok(Runner {
            orders,
            admin: watch::Sender::new(admin),
            process,
            _alive: alive,
        })
    }

    /// Where operators connect now.
    pub(crate) fn admin(&self) -> watch::Receiver<SocketAddr> {
        self.admin.subscribe()
    }

    /// Kills it as `kill -9` does, and starts another one.
    pub(crate) async fn kill_and_start(&mut self) -> io::Result<()> {
        self.process.kill().await?;
        let (process, alive, admin) = spawn(&self.orders).await?;
        (self.process, self._alive) = (process, alive);
        self.admin.send_replace(admin);
        Ok(())
    }

    /// Ends it, and waits until it is gone.
    pub(crate) async fn end(mut self) -> io::Result<()> {
        self.process.kill().await
    }
}

async fn spawn(orders: &str) -> io::Result<(Child, ChildStdin, SocketAddr)> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["demo", "--runner"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let silent = || io::Error::other("the process that runs the orders did not start");
    let mut alive = process.stdin.take().ok_or_else(silent)?;
    let told = process.stdout.take().ok_or_else(silent)?;
    let mut line = String::new();
    let greet = async {
        alive.write_all(orders.as_bytes()).await?;
        BufReader::new(told).read_line(&mut line).await
    };
    tokio::time::timeout(STARTING, greet)
        .await
        .map_err(|_| silent())??;
    let admin = line.trim().parse().map_err(|_| silent())?;
    Ok((process, alive, admin))
}

/// The process: serves until nobody holds its standard input any more.
///
/// # Errors
/// If it is not told what to do, or the gateway cannot start.
pub(crate) fn serve() -> io::Result<()> {
    let mut told = io::stdin().lock();
    let mut line = String::new();
    told.read_line(&mut line)?;
    let orders: Value = serde_json::from_str(&line)?;
    let plan =
        plan(&orders).ok_or_else(|| io::Error::other("the demo starts this, nobody else"))?;
    let gateway = Gateway::start(plan, Options::default()).map_err(io::Error::other)?;
    let admin = gateway.admin_address();
    output::print(&format!(
        "{}\n",
        admin.map_or_else(String::new, |it| it.to_string())
    ))?;
    io::copy(&mut told, &mut io::sink())?;
    Ok(())
}

/// The shop's policies, where the demo says that everything is.
fn plan(orders: &Value) -> Option<Plan> {
    let mut plan = at_free_ports(policies());
    for upstream in &mut plan.upstreams {
        for endpoint in &mut upstream.endpoints {
            let port = &orders["ports"][format!("{}/{}", upstream.name, endpoint.name)];
            endpoint.port = u16::try_from(port.as_u64()?).ok()?;
        }
    }
    plan.store = Store::Sqlite(orders["store"].as_str()?.into());
    Some(plan)
}

/// A gateway starts in a tenth of a second; a machine may be very busy.
const STARTING: Duration = Duration::from_secs(20);
