//! What became of the orders: what was told, and what five ledgers say.
//!
//! At the end of the day the ledgers of a shop are read over HTTP, as an auditor would. An order is done
//! if the first four of them say so; it is undone if none says any more that something was done for it;
//! anything between is half done, and somebody has to find out and to mend it by hand.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use reqwest::Client;
use serde_json::{Value, json};

use super::orders::{Board, Told};
use super::role::{Effect, Role};
use super::shop::Shop;

/// What the ledgers say of an order: effects and what undid them, in the order of [`Role::ALL`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Effects {
    done: [u32; 5],
    undone: [u32; 5],
}

/// By the order.
pub(crate) type Books = BTreeMap<String, Effects>;

impl Effects {
    fn stands(&self, role: Role) -> bool {
        let at = role as usize;
        self.done[at] > self.undone[at]
    }

    /// Without the mail, which is no part of the business.
    fn standing(&self) -> usize {
        let business = Role::ALL.into_iter().take(4);
        business.filter(|role| self.stands(*role)).count()
    }
}

/// Orders counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Those that were placed.
    pub(crate) placed: usize,
    pub(crate) completed: usize,
    pub(crate) compensated: usize,
    /// Those of which an error was told.
    pub(crate) failed: usize,
    /// Those that had not ended, or wait for somebody, when the day was over.
    pub(crate) waiting: usize,
    /// By the ledgers.
    pub(crate) done: usize,
    pub(crate) undone: usize,
    pub(crate) half_done: usize,
    /// Charged, and neither shipped nor refunded.
    pub(crate) charged_in_vain: usize,
    pub(crate) charged_twice: usize,
    /// Reserved, and neither shipped nor released.
    pub(crate) stock_lost: usize,
    /// Half done, waiting or told wrongly.
    pub(crate) astray: usize,
    /// Told to be done or undone, while the ledgers say otherwise; or in a ledger, and placed by nobody.
    pub(crate) wrong: usize,
}

impl Tally {
    /// Counts what was told and what is in the books.
    pub(crate) fn of(board: &Board, books: &Books) -> Tally {
        let strangers = books.keys().filter(|order| !board.contains_key(*order));
        let strangers = strangers.count();
        let mut tally = Tally {
            placed: board.len(),
            wrong: strangers,
            astray: strangers,
            ..Tally::default()
        };
        for (order, told) in board {
            let effects = books.get(order).copied().unwrap_or_default();
            let standing = effects.standing();
            match standing {
                0 => tally.undone += 1,
                4 => tally.done += 1,
                _ => tally.half_done += 1,
            }
            match told {
                Told::Nothing | Told::Running => tally.waiting += 1,
                Told::Completed => tally.completed += 1,
                Told::Compensated => tally.compensated += 1,
                Told::Failed => tally.failed += 1,
            }
            let wrong = match told {
                Told::Completed => standing != 4,
                Told::Compensated => standing != 0,
                Told::Nothing | Told::Running | Told::Failed => false,
            };
            let waits = matches!(told, Told::Nothing | Told::Running);
            tally.wrong += usize::from(wrong);
            tally.astray += usize::from(wrong || waits || (1..4).contains(&standing));
            let ships = effects.stands(Role::Shipping);
            let unshipped = |role| usize::from(effects.stands(role) && !ships);
            tally.charged_in_vain += unshipped(Role::Payment);
            tally.stock_lost += unshipped(Role::Inventory);
            tally.charged_twice += usize::from(effects.done[Role::Payment as usize] > 1);
        }
        tally
    }

    pub(crate) fn as_json(&self) -> Value {
        json!({
            "placed": self.placed,
            "completed": self.completed,
            "compensated": self.compensated,
            "failed": self.failed,
            "waiting": self.waiting,
            "ledgers": {
                "done": self.done,
                "undone": self.undone,
                "half_done": self.half_done,
                "charged_in_vain": self.charged_in_vain,
                "charged_twice": self.charged_twice,
                "stock_lost": self.stock_lost,
                "told_otherwise": self.wrong,
            },
        })
    }
}

/// The table of both sides.
pub(crate) fn table([with, without]: &[Tally; 2], kills: usize) -> String {
    let row =
        |text: &str, with: usize, without: usize| format!("{text:<56}{with:>12}{without:>12}\n");
    let killed = format!("{kills} times");
    [
        format!(
            "{:<56}{:>12}{:>12}\n",
            "orders over five services", "with Outlast", "without"
        ),
        row("placed", with.placed, without.placed),
        row("  told to be done", with.completed, without.completed),
        row("  told to be undone", with.compensated, without.compensated),
        row("  told to have failed", with.failed, without.failed),
        row("  still waiting", with.waiting, without.waiting),
        format!("{:<56}{:>12}{:>12}\n", "by the five ledgers", "", ""),
        row("  done", with.done, without.done),
        row("  undone", with.undone, without.undone),
        row("  half done", with.half_done, without.half_done),
        row(
            "  charged, and neither shipped nor refunded",
            with.charged_in_vain,
            without.charged_in_vain,
        ),
        row("  charged twice", with.charged_twice, without.charged_twice),
        row(
            "  reserved, and neither shipped nor released",
            with.stock_lost,
            without.stock_lost,
        ),
        row("  other than was told", with.wrong, without.wrong),
        format!(
            "{:<56}{killed:>12}{:>12}\n",
            "kill -9 of the process that runs them", "-"
        ),
    ]
    .concat()
}

/// Reads the five ledgers of a shop.
pub(crate) async fn read(client: &Client, shop: &Shop) -> io::Result<Books> {
    let mut books = Books::new();
    for role in Role::ALL {
        let address = shop.keeper(role).address;
        let told = fetch(client, &format!("http://{address}/ledger")).await?;
        for entry in told["entries"].as_array().into_iter().flatten() {
            let word = entry["effect"].as_str().unwrap_or_default();
            let effect = role.effect(word).ok_or_else(|| {
                io::Error::other(format!("the ledger of {} says {word:?}", role.name()))
            })?;
            let order = entry["order"].as_str().unwrap_or_default().to_owned();
            let effects = books.entry(order).or_default();
            match effect {
                Effect::Done => effects.done[role as usize] += 1,
                Effect::Undone => effects.undone[role as usize] += 1,
                Effect::Void => {}
            }
        }
    }
    Ok(books)
}

/// Adds what the gateway knows of the orders whose customers were not told of an end.
pub(crate) async fn ask(client: &Client, admin: SocketAddr, board: &mut Board) -> io::Result<()> {
    let mut after = 0;
    loop {
        let page = fetch(
            client,
            &format!("http://{admin}/sagas?limit=1000&after={after}"),
        )
        .await?;
        for saga in page["sagas"].as_array().into_iter().flatten() {
            let told = match saga["state"].as_str() {
                Some("completed") => Told::Completed,
                Some("compensated") => Told::Compensated,
                _ => Told::Running,
            };
            let order = saga["id"].as_str().unwrap_or_default().to_owned();
            let known = board.entry(order).or_insert(told);
            if matches!(known, Told::Nothing | Told::Running) {
                *known = told;
            }
        }
        match page["next"].as_i64() {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

async fn fetch(client: &Client, url: &str) -> io::Result<Value> {
    let answer = client.get(url).send().await.map_err(io::Error::other)?;
    let status = answer.status();
    let text = answer.text().await.map_err(io::Error::other)?;
    if !status.is_success() {
        return Err(io::Error::other(format!("{url} answers {status}: {text}")));
    }
    serde_json::from_str(&text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Effects by how many steps were done, and how many of them are undone.
    fn effects(done: usize, undone: usize) -> Effects {
        let mut effects = Effects::default();
        effects.done[..done].fill(1);
        effects.undone[done - undone..done].fill(1);
        effects
    }

    #[test]
    fn every_order_is_counted_once_and_by_what_the_ledgers_say() {
        let orders = [
            ("fine", Told::Completed, effects(5, 0)),
            ("without mail", Told::Completed, effects(4, 0)),
            ("given up", Told::Compensated, effects(3, 3)),
            ("never begun", Told::Failed, effects(0, 0)),
            ("left behind", Told::Failed, effects(3, 0)),
            ("under way", Told::Running, effects(2, 0)),
            ("a lie", Told::Completed, effects(3, 3)),
            ("half a refund", Told::Compensated, effects(3, 2)),
        ];
        let board = orders.map(|(order, told, _)| (order.to_owned(), told));
        let books = orders.map(|(order, _, effects)| (order.to_owned(), effects));
        let mut books = Books::from(books);
        let mut twice = effects(4, 0);
        twice.done[Role::Payment as usize] = 2;
        books.insert("fine".to_owned(), twice);
        books.insert("of nobody".to_owned(), effects(1, 0));
        let tally = Tally::of(&Board::from(board), &books);
        let expected = Tally {
            placed: 8,
            completed: 3,
            compensated: 2,
            failed: 2,
            waiting: 1,
            done: 2,
            undone: 3,
            half_done: 3,
            charged_in_vain: 1,
            charged_twice: 1,
            stock_lost: 2,
            astray: 5,
            wrong: 3,
        };
        assert_eq!(tally, expected);
    }
}
