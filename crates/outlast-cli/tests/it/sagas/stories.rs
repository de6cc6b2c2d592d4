//! Days of a shop, by the books of its services: who did what, and in which order.

use super::*;

#[test]
fn shipping_is_down_and_everything_is_given_back_in_reverse_each_once() {
    let shop = Shop::patient();
    let order = shop.order("late", "ship:down");
    assert_eq!(order["state"], "compensated", "{order}");
    let story = [
        "do late/create",
        "do late/reserve",
        "do late/charge",
        "undo late/charge",
        "undo late/reserve",
        "undo late/create",
    ];
    assert_eq!(shop.story("late"), story);
    // Nobody is told of the order, and the order is done.
    let order = shop.order("quiet", "notify:down");
    assert_eq!(order["state"], "completed", "{order}");
    assert_eq!(shop.story("quiet"), lines("do", "quiet", &STEPS[..4]));
}

#[test]
fn of_two_orders_for_the_last_one_one_wins() {
    let shop = Shop::patient();
    let check = |ids: &[&str; 2], how: &str, expected: [&str; 2]| {
        std::thread::scope(|scope| {
            for id in ids {
                scope.spawn(|| shop.begin(id, "last", how));
            }
        });
        let mut states = ids.map(|id| {
            wait_until("it ends", || {
                let (_, saga) = shop.ask("GET", &format!("/sagas/{id}"), "");
                saga["state"] == "completed" || saga["state"] == "compensated"
            });
            let (_, saga) = shop.ask("GET", &format!("/sagas/{id}"), "");
            if saga["steps"][1]["state"] == "given_up" {
                // At once: it is not asked for again.
                assert_eq!(saga["steps"][1]["attempts"], 1, "{saga}");
                let story = [format!("do {id}/create"), format!("undo {id}/create")];
                assert_eq!(shop.story(id), story);
            }
            saga["state"].as_str().unwrap().to_owned()
        });
        states.sort();
        assert_eq!(states, expected);
    };
    // Who has it does not get it shipped: it is there again.
    let order = shop.ask(
        "POST",
        "/sagas/order?id=first&wait=20s",
        &json!({ "item": "last", "how": "ship:no" }).to_string(),
    );
    assert_eq!(order.1["state"], "compensated", "{}", order.1);
    check(&["one", "two"], "", ["compensated", "completed"]);
    check(&["three", "four"], "", ["compensated", "compensated"]);
}

/// The inventory takes two seconds, and nobody waits for it so long: nothing is charged, and what it does
/// in the end it does not do.
#[test]
fn a_flash_sale_charges_nobody_whose_item_takes_too_long() {
    let shop = Shop::open_with(tempfile::tempdir().unwrap(), Vec::new(), |plan| {
        let plan = plan.replace("timeout: 1s", "timeout: 20s");
        let (before, reserve) = plan.split_once("- name: reserve").unwrap();
        let reserve = reserve.replacen("timeout: 20s", "timeout: 500ms", 1);
        let reserve = reserve.replacen("attempts: 2", "attempts: 1", 1);
        format!("{before}- name: reserve{reserve}")
    });
    let ids: Vec<_> = (0..20).map(|number| format!("sale-{number}")).collect();
    for id in &ids {
        shop.begin(id, "a book", "reserve:slow");
    }
    for id in &ids {
        let order = shop.until(id, "compensated");
        assert_eq!(order["steps"][2]["state"], "pending", "{order}");
    }
    // When the inventory has got to them, too.
    std::thread::sleep(Duration::from_millis(2500));
    for id in &ids {
        let story = [format!("do {id}/create"), format!("undo {id}/create")];
        assert_eq!(shop.story(id), story);
    }
}
