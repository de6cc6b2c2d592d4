//! `outlast demo`: a shop on a bad day, with and without Outlast, side by side.
//!
//! Two shops of the same services open on free loopback ports; the same customers come to both. One
//! shop has the gateway in front, with the policies of `examples/shop/outlast.yaml`; in the other
//! everybody calls everybody directly. Then the day of trouble begins. What is shown, and judged in
//! the end, is measured.

mod load;
mod promises;
mod service;
mod shop;
mod story;
mod view;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use outlast_config::plan::{Admin, Plan};
use outlast_gateway::{Gateway, Options, Status};
use serde_json::json;
use tokio::time::Instant;

use self::load::Customers;
use self::promises::{Verdict, head, judge};
use self::shop::{Calls, Shop};
use self::story::Chapter;
use self::view::{Moment, View};
use crate::commands::Demo;
use crate::{FAILED, UNABLE, output};

/// The policies of the shop.
const POLICIES: &str = include_str!("../../../examples/shop/outlast.yaml");

/// Shows the day; fails if a promise is broken.
pub(crate) fn run(demo: &Demo) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime.and_then(|runtime| runtime.block_on(show(demo))) {
        Ok(code) => code,
        Err(error) => {
            output::tell(format_args!("the demo could not go on: {error}"));
            ExitCode::from(UNABLE)
        }
    }
}

async fn show(demo: &Demo) -> io::Result<ExitCode> {
    let address = Arc::new(OnceLock::new());
    let shops = [
        Shop::open(Calls::Gateway(Arc::clone(&address)), demo.seed)?,
        Shop::open(Calls::Direct, demo.seed)?,
    ];
    let gateway = Gateway::start(plan(&shops[0]), Options::default()).map_err(io::Error::other)?;
    let front = gateway.addresses()[0];
    let _ = address.set(front.to_string());
    let stock = shops[1].replicas.each_ref().map(|replica| replica.address);
    let customers = [
        Customers::new(front, [front, front])?,
        Customers::new(shops[1].order.address, stock)?,
    ];
    let verdicts = live(demo, &shops, &gateway, &customers).await?;
    let Some(verdicts) = verdicts else {
        output::print("left before the end of the day\n")?;
        return Ok(ExitCode::SUCCESS);
    };
    output::print(&report(demo, &verdicts))?;
    if demo.keep {
        keep(&gateway).await?;
    }
    let kept = verdicts.iter().all(Verdict::is_kept);
    Ok(if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

/// The shipped policies, for services at other addresses.
fn plan(shop: &Shop) -> Plan {
    let loaded = outlast_config::parse("examples/shop/outlast.yaml", POLICIES);
    let mut plan = loaded.expect("the shipped policies are good").into_plan();
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    plan.gateway.listen[0].address = free;
    plan.gateway.admin = Some(Admin {
        address: free,
        token: None,
    });
    for upstream in &mut plan.upstreams {
        for endpoint in &mut upstream.endpoints {
            let service = match (upstream.name.as_str(), endpoint.name.as_str()) {
                ("order", _) => &shop.order,
                ("payment", "stripe") => &shop.stripe,
                ("payment", _) => &shop.adyen,
                ("inventory", "a") => &shop.replicas[0],
                ("inventory", _) => &shop.replicas[1],
                ("shipping", _) => &shop.shipping,
                _ => &shop.notification,
            };
            endpoint.port = service.address.port();
        }
    }
    plan
}

/// Lives through the day; nothing, if the viewer left.
async fn live(
    demo: &Demo,
    shops: &[Shop; 2],
    gateway: &Gateway,
    customers: &[Customers; 2],
) -> io::Result<Option<Vec<Verdict>>> {
    let (day, began) = (demo.length, Instant::now());
    let mut coming = tokio::task::JoinSet::new();
    for customers in customers {
        coming.spawn(customers.clone().come(began, day, demo.seed));
    }
    let mut view = match (demo.json, demo.plain || !io::stdout().is_terminal()) {
        (true, _) => View::Nothing,
        (false, true) => View::Lines,
        (false, false) => View::Terminal(ratatui::init()),
    };
    let pace = if matches!(view, View::Terminal(_)) {
        250
    } else {
        1000
    };
    let mut ticks = tokio::time::interval(BEAT);
    let (mut chapter, mut before, mut shown) = (Chapter::Calm, gateway.status(), began);
    let leaves = loop {
        tokio::select! {
            _ = ticks.tick() => {}
            interrupted = tokio::signal::ctrl_c() => break interrupted.is_ok(),
        }
        let time = began.elapsed();
        let now = Chapter::at(time, day);
        if now != chapter {
            shops.iter().try_for_each(|shop| now.begin(chapter, shop))?;
            chapter = now;
        }
        if shown.elapsed() >= Duration::from_millis(pace) || time >= day {
            let status = gateway.status();
            let leaves = look(
                &mut view,
                demo,
                shops,
                customers,
                time,
                (&status, &before, shown),
            )?;
            (before, shown) = (status, Instant::now());
            if leaves {
                break true;
            }
        }
        if time >= day {
            break false;
        }
    };
    view.close();
    if leaves {
        return Ok(None);
    }
    coming.join_all().await;
    let [protected, bare] = customers.each_ref().map(Customers::samples);
    Ok(Some(judge(&protected, &bare, day)))
}

fn look(
    view: &mut View,
    demo: &Demo,
    shops: &[Shop; 2],
    customers: &[Customers; 2],
    time: Duration,
    (status, before, shown): (&Status, &Status, Instant),
) -> io::Result<bool> {
    let [protected, bare] = customers.each_ref().map(Customers::samples);
    view.show(&Moment {
        time,
        day: demo.length,
        protected: &protected,
        bare: &bare,
        workers: shops.each_ref().map(Shop::busy_workers),
        status,
        before,
        since: shown.elapsed(),
    })
}

fn report(demo: &Demo, verdicts: &[Verdict]) -> String {
    let kept = verdicts.iter().filter(|verdict| verdict.is_kept()).count();
    if demo.json {
        let promises: Vec<_> = verdicts.iter().map(Verdict::as_json).collect();
        let report = json!({ "seed": demo.seed, "kept": kept, "promises": promises });
        return format!("{report:#}\n");
    }
    let lines: String = verdicts
        .iter()
        .map(|verdict| format!("{}\n", verdict.line()))
        .collect();
    format!(
        "\n{}\n{lines}\n{kept} of {} promises kept (seed {})\n",
        head(),
        verdicts.len(),
        demo.seed
    )
}

/// Leaves the shop open until it is interrupted.
async fn keep(gateway: &Gateway) -> io::Result<()> {
    let front = gateway.addresses()[0];
    output::print(&format!(
        "\nThe shop stays open; Ctrl-C closes it.\n  \
         curl -i -X POST http://{front}/checkout\n  \
         curl -i http://{front}/stock/7\n"
    ))?;
    if let Some(admin) = gateway.admin_address() {
        output::print(&format!(
            "  curl http://{admin}/status\n  \
             curl -d '{{\"force\":\"open\"}}' http://{admin}/upstreams/payment/breaker\n"
        ))?;
    }
    tokio::signal::ctrl_c().await
}

/// How often the story is looked at.
const BEAT: Duration = Duration::from_millis(50);
