//! A gateway whose clock jumps by an hour, with orders that wait.

use super::*;

#[path = "../../../../outlast-saga/tests/it/clock/fake.rs"]
#[allow(unreachable_pub, reason = "it is shared with other tests")]
pub(crate) mod fake;

use self::fake::Clock;

/// Whether an answer's date is so many seconds from the true one.
fn is_off_by(shop: &Shop, seconds: i64) -> bool {
    let mut stream = TcpStream::connect(shop.admin).unwrap();
    let request = b"GET /sagas HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let date = answer.lines().find_map(|line| line.strip_prefix("date: "));
    let time = date.unwrap().split(' ').nth(4).unwrap();
    let day = time
        .split(':')
        .fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap());
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let off = (day - now - seconds).rem_euclid(86400);
    !(600..86400 - 600).contains(&off)
}

#[test]
fn an_hour_forth_or_back_makes_no_order_late_and_holds_up_none() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new(folder.path());
    let mut runs = vec!["env".to_owned()];
    for (name, value) in clock.environment() {
        runs.push(format!("{name}={}", value.to_str().unwrap()));
    }
    // Half an hour is longer than this takes, and shorter than a jump. Shipping is away until it is back.
    let mut shop = Shop::open_with(folder, runs, |plan| {
        plan.replace("      steps:", "      deadline: 30m\n      steps:")
            .replace(
                "attempts: 2, backoff: 50ms",
                "attempts: 1000, backoff: 100ms",
            )
    });
    let attempts = |shop: &Shop| {
        let (_, saga) = shop.ask("GET", "/sagas/waits", "");
        assert_eq!(saga["state"], "open", "{saga}");
        saga["steps"][3]["attempts"].as_u64().unwrap()
    };
    let goes_on = |shop: &Shop| {
        let before = attempts(shop);
        wait_until("it is tried again", || attempts(shop) > before + 3);
    };
    shop.begin("waits", "a book", "ship:away");
    wait_until("it waits", || attempts(&shop) > 0);
    for offset in [0, 3600, -3600, 0, 3600] {
        clock.set(offset);
        goes_on(&shop);
        // The date of answers goes forth at once, and back when another process makes them.
        wait_until("the clock has jumped", || {
            offset < 3600 || is_off_by(&shop, offset)
        });
    }
    for offset in [0, -3600] {
        shop.kill();
        clock.set(offset);
        shop.serve();
        assert!(is_off_by(&shop, offset));
        goes_on(&shop);
    }
    std::fs::write(shop.ledger("shipping.back"), "").unwrap();
    shop.until("waits", "completed");
    assert_eq!(shop.story("waits"), lines("do", "waits", &STEPS));
}
