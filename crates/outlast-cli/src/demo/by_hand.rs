//! `outlast demo --services`: the services alone, at fixed addresses, to try the shop by hand.
//!
//! A service may have a process of its own, so that it can be stopped as services stop in earnest; with
//! a ledger in a file, the next process goes on with it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use outlast_config::plan::{Plan, Upstream};
use tokio::sync::Semaphore;

use super::interrupted;
use super::ledger::Ledger;
use super::policies;
use super::role::Role;
use super::service::Service;
use super::shop::{Calls, WORKERS, keeps, orders, second_provider};
use crate::commands::Demo;
use crate::{failed, output};

/// Opens services until it is interrupted; all of them, if none is named.
pub(super) async fn open(demo: &Demo, roles: &[Role]) -> io::Result<ExitCode> {
    let plan = match &demo.policy {
        None => policies(),
        Some(file) => match outlast_config::load(file) {
            Ok(loaded) => loaded.into_plan(),
            Err(problems) => {
                output::tell(&problems);
                return Ok(ExitCode::from(failed(&problems)));
            }
        },
    };
    let roles = if roles.is_empty() { &Role::ALL } else { roles };
    let mut services = Vec::new();
    for role in roles {
        let ledger = Arc::new(ledger(*role, demo.ledgers.as_deref())?);
        for service in at(&plan, *role, &ledger, demo.seed)? {
            output::print(&format!("{:<13}http://{}\n", role.name(), service.address))?;
            services.push(service);
        }
    }
    output::print("Ctrl-C closes them.\n")?;
    interrupted().await?;
    Ok(ExitCode::SUCCESS)
}

fn ledger(role: Role, folder: Option<&Path>) -> io::Result<Ledger> {
    let Some(folder) = folder else {
        return Ok(Ledger::new(role));
    };
    std::fs::create_dir_all(folder)
        .map_err(|error| io::Error::other(format!("{}: {error}", folder.display())))?;
    Ledger::open(role, &folder.join(format!("{}.jsonl", role.name())))
}

/// A service for each endpoint of its upstream. The first of payment's is the one that orders pay with.
fn at(plan: &Plan, role: Role, ledger: &Arc<Ledger>, seed: u64) -> io::Result<Vec<Service>> {
    let named = |upstream: &&Upstream| upstream.name == role.name();
    let upstream = plan.upstreams.iter().find(named).ok_or_else(|| {
        io::Error::other(format!("the policy file has no upstream `{}`", role.name()))
    })?;
    let front = plan.gateway.listen[0].address.to_string();
    let endpoints = upstream.endpoints.iter().enumerate();
    let service = |(number, endpoint): (usize, &outlast_config::plan::Endpoint)| {
        let host = endpoint
            .host
            .parse()
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let address = SocketAddr::new(host, endpoint.port);
        let opened = match (role, number) {
            (Role::Order, _) => {
                let calls = Calls::Gateway(Arc::new(OnceLock::from(front.clone())));
                orders(
                    address,
                    seed,
                    ledger,
                    calls,
                    &Arc::new(Semaphore::new(WORKERS)),
                )
            }
            (Role::Payment, 1..) => second_provider(address, seed),
            _ => keeps(role, address, seed, ledger),
        };
        opened.map_err(|error| io::Error::other(format!("{} at {address}: {error}", role.name())))
    };
    endpoints.map(service).collect()
}
