//! `outlast demo`: a shop on a bad day, with and without Outlast, side by side.
//!
//! Two shops of the same services open on free loopback ports; the same customers come to both. One
//! shop has the gateway in front, with the policies of `examples/shop/outlast.yaml`; in the other
//! everybody calls everybody directly. Then the day of trouble begins. What is shown, and judged in
//! the end, is measured.
//!
//! Some customers place orders that go through all services. In the first shop they are sagas, run by a
//! process that is killed now and then; in the other they are plain code. In the end the services'
//! ledgers are read, and they say what became of the orders.

mod books;
mod by_hand;
mod day;
mod ledger;
mod load;
mod orders;
mod promises;
mod role;
mod runner;
mod service;
mod shop;
mod story;
mod view;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use outlast_config::plan::{Admin, Plan};
use outlast_gateway::{Gateway, Options};
use tokio::signal::unix::{SignalKind, signal};

use self::day::Day;
use self::load::Customers;
use self::orders::Buyers;
pub(crate) use self::role::Role;
use self::runner::Runner;
use self::shop::Shop;
use crate::commands::Demo;
use crate::{UNABLE, output};

/// The policies of the shop.
const POLICIES: &str = include_str!("../../../examples/shop/outlast.yaml");

/// Shows the day; fails if a promise is broken.
pub(crate) fn run(demo: &Demo) -> ExitCode {
    let done = if demo.runner {
        runner::serve().map(|()| ExitCode::SUCCESS)
    } else {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        runtime.and_then(|runtime| {
            runtime.block_on(async {
                match &demo.services {
                    Some(roles) => by_hand::open(demo, roles).await,
                    None => show(demo).await,
                }
            })
        })
    };
    done.unwrap_or_else(|error| {
        output::tell(format_args!("the demo could not go on: {error}"));
        ExitCode::from(UNABLE)
    })
}

async fn show(demo: &Demo) -> io::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("outlast-demo-").tempdir()?;
    let address = Arc::new(OnceLock::new());
    let shops = [
        Shop::open(Some(Arc::clone(&address)), demo.seed)?,
        Shop::open(None, demo.seed)?,
    ];
    let gateway = Gateway::start(plan(&shops[0]), Options::default()).map_err(io::Error::other)?;
    let front = gateway.addresses()[0];
    let _ = address.set(front.to_string());
    let mut runner = Runner::start(&shops[0], folder.path()).await?;
    let stock = shops[1].replicas.each_ref().map(|replica| replica.address);
    let customers = [
        Customers::new(front, [front, front])?,
        Customers::new(shops[1].order.address, stock)?,
    ];
    let buyers = [
        Buyers::with_sagas(runner.admin())?,
        Buyers::plain(&shops[1])?,
    ];
    let mut day = Day {
        demo,
        shops,
        gateway,
        customers,
        buyers,
        kills: 0,
    };
    let code = day.pass(&mut runner).await;
    // It has to be gone before its folder goes.
    runner.end().await?;
    code
}

/// The shipped policies.
fn policies() -> Plan {
    let loaded = outlast_config::parse("examples/shop/outlast.yaml", POLICIES);
    loaded.expect("the shipped policies are good").into_plan()
}

fn at_free_ports(mut plan: Plan) -> Plan {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    plan.gateway.listen[0].address = free;
    plan.gateway.admin = Some(Admin {
        address: free,
        token: None,
    });
    plan
}

/// What customers come through: the shipped policies for services at other addresses. Orders are run by
/// another process.
fn plan(shop: &Shop) -> Plan {
    let mut plan = at_free_ports(policies());
    plan.sagas = None;
    for upstream in &mut plan.upstreams {
        for endpoint in &mut upstream.endpoints {
            let service = shop.behind(&upstream.name, &endpoint.name);
            endpoint.port = service.address.port();
        }
    }
    plan
}

/// Until somebody wants it to end.
async fn interrupted() -> io::Result<()> {
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
