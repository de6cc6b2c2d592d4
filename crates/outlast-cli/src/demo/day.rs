//! A day: its story is told, shown and judged.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use outlast_gateway::{Gateway, Status};
use serde_json::json;
use tokio::time::Instant;

use super::books::{self, Tally};
use super::interrupted;
use super::load::Customers;
use super::orders::Buyers;
use super::promises::{Verdict, head, judge, judge_orders};
use super::runner::Runner;
use super::shop::{Shop, client};
use super::story::{Chapter, kills};
use super::view::{Moment, View};
use crate::commands::Demo;
use crate::{FAILED, output};

/// A day, and all who live through it.
pub(super) struct Day<'a> {
    pub(super) demo: &'a Demo,
    pub(super) shops: [Shop; 2],
    pub(super) gateway: Gateway,
    pub(super) customers: [Customers; 2],
    pub(super) buyers: [Buyers; 2],
    /// How often the process that runs the orders was killed.
    pub(super) kills: usize,
}

impl Day<'_> {
    /// Lets it pass, and reports.
    pub(super) async fn pass(&mut self, runner: &mut Runner) -> io::Result<ExitCode> {
        if !self.live(runner).await? {
            output::print("left before the end of the day\n")?;
            return Ok(ExitCode::SUCCESS);
        }
        let tallies = self.count(runner).await?;
        let [protected, bare] = self.customers.each_ref().map(Customers::samples);
        let mut verdicts = judge(&protected, &bare, self.demo.length);
        verdicts.extend(judge_orders(&tallies));
        output::print(&self.report(&verdicts, &tallies))?;
        if self.demo.keep {
            self.keep(runner).await?;
        }
        Ok(match verdicts.iter().all(Verdict::is_kept) {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(FAILED),
        })
    }

    /// Lives through the day, and waits for those who came; whether the viewer has stayed.
    async fn live(&mut self, runner: &mut Runner) -> io::Result<bool> {
        let (day, seed, began) = (self.demo.length, self.demo.seed, Instant::now());
        let mut coming = tokio::task::JoinSet::new();
        for customers in &self.customers {
            coming.spawn(customers.clone().come(began, day, seed));
        }
        for buyers in &self.buyers {
            coming.spawn(buyers.clone().come(began, day, seed));
        }
        let mut view = View::new(self.demo);
        let left = self.look_on(&mut view, began, runner).await;
        view.close();
        if left? {
            return Ok(false);
        }
        tokio::select! {
            _ = coming.join_all() => Ok(true),
            stopped = interrupted() => stopped.map(|()| false),
        }
    }

    /// Tells the story and shows it until the day is over; whether the viewer has left.
    async fn look_on(
        &mut self,
        view: &mut View,
        began: Instant,
        runner: &mut Runner,
    ) -> io::Result<bool> {
        let day = self.demo.length;
        let mut ticks = tokio::time::interval(BEAT);
        let (mut chapter, mut before, mut shown) = (Chapter::Calm, self.gateway.status(), began);
        let mut stopped = std::pin::pin!(interrupted());
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                stopped = &mut stopped => return stopped.map(|()| true),
            }
            let time = began.elapsed();
            let now = Chapter::at(time, day);
            if now != chapter {
                self.shops
                    .iter()
                    .try_for_each(|shop| now.begin(chapter, shop))?;
                chapter = now;
            }
            if self.kills < kills(time, day) {
                runner.kill_and_start().await?;
                self.kills += 1;
            }
            if shown.elapsed() >= view.pace() || time >= day {
                let status = self.gateway.status();
                let leaves = self.look(view, time, (&status, &before, shown))?;
                (before, shown) = (status, Instant::now());
                if leaves {
                    return Ok(true);
                }
            }
            if time >= day {
                return Ok(false);
            }
        }
    }

    fn look(
        &self,
        view: &mut View,
        time: Duration,
        (status, before, shown): (&Status, &Status, Instant),
    ) -> io::Result<bool> {
        let [protected, bare] = self.customers.each_ref().map(Customers::samples);
        let [with, without] = self.buyers.each_ref().map(Buyers::board);
        view.show(&Moment {
            time,
            day: self.demo.length,
            protected: &protected,
            bare: &bare,
            workers: self.shops.each_ref().map(Shop::busy_workers),
            orders: [&with, &without],
            kills: self.kills,
            status,
            before,
            since: shown.elapsed(),
        })
    }

    /// Counts the orders of both shops, by what was told and by their ledgers.
    async fn count(&self, runner: &Runner) -> io::Result<[Tally; 2]> {
        let client = client(READING)?;
        let [mut with, without] = self.buyers.each_ref().map(Buyers::board);
        let admin = *runner.admin().borrow();
        books::ask(&client, admin, &mut with).await?;
        Ok([
            Tally::of(&with, &books::read(&client, &self.shops[0]).await?),
            Tally::of(&without, &books::read(&client, &self.shops[1]).await?),
        ])
    }

    fn report(&self, verdicts: &[Verdict], tallies: &[Tally; 2]) -> String {
        let (kept, seed) = (
            verdicts.iter().filter(|verdict| verdict.is_kept()).count(),
            self.demo.seed,
        );
        if self.demo.json {
            let promises: Vec<_> = verdicts.iter().map(Verdict::as_json).collect();
            let [with, without] = tallies.each_ref().map(Tally::as_json);
            let orders = json!({ "kills": self.kills, "protected": with, "unprotected": without });
            let report =
                json!({ "seed": seed, "kept": kept, "promises": promises, "orders": orders });
            return format!("{report:#}\n");
        }
        let lines: String = verdicts
            .iter()
            .map(|verdict| format!("{}\n", verdict.line()))
            .collect();
        format!(
            "\n{}\n{lines}\n{}\n{kept} of {} promises kept (seed {seed})\n",
            head(),
            books::table(tallies, self.kills),
            verdicts.len(),
        )
    }

    /// Leaves the shop open until it is interrupted.
    async fn keep(&self, runner: &Runner) -> io::Result<()> {
        let front = self.gateway.addresses()[0];
        output::print(&format!(
            "\nThe shop stays open; Ctrl-C closes it.\n  \
             curl -i -X POST http://{front}/checkout\n  \
             curl -i http://{front}/stock/7\n"
        ))?;
        if let Some(admin) = self.gateway.admin_address() {
            output::print(&format!(
                "  curl http://{admin}/status\n  \
                 curl -d '{{\"force\":\"open\"}}' http://{admin}/upstreams/payment/breaker\n"
            ))?;
        }
        let (sagas, payment) = (*runner.admin().borrow(), self.shops[0].stripe.address);
        output::print(&format!(
            "  curl -H 'Idempotency-Key: mine' -d '{{\"item\":\"a book\",\"euros\":20}}' \
             'http://{sagas}/sagas/order?wait=5s'\n  \
             outlast saga --at http://{sagas} show mine\n  \
             curl 'http://{payment}/ledger?order=mine'\n"
        ))?;
        interrupted().await
    }
}

/// How often the story is looked at.
const BEAT: Duration = Duration::from_millis(50);
/// For a ledger that is read, or a list.
const READING: Duration = Duration::from_secs(10);
