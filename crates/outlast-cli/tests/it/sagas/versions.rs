//! A definition that changes while its sagas run.

use super::*;

/// The file with these versions of the order, each with a number and how its orders are created.
fn plan_of(plan: &str, versions: &[(u32, &str)]) -> String {
    let (before, steps) = plan.split_once("      version: 1\n      steps:\n").unwrap();
    let mut text = before.to_owned();
    for (version, create) in versions {
        text.push_str(&format!("      - version: {version}\n        steps:\n"));
        text.push_str(&steps.replace("POST /create/", create));
    }
    text
}

#[test]
fn orders_end_with_the_version_that_they_began_with() {
    let mut shop = Shop::open_with(tempfile::tempdir().unwrap(), Vec::new(), |plan| {
        plan_of(plan, &[(1, "POST /create/")]).replace("timeout: 1s", "timeout: 60s")
    });
    let file = shop.folder.path().join("outlast.yaml");
    let log = shop.folder.path().join("log");
    let charged = shop.folder.path().join("payment.go");
    let plan = std::fs::read_to_string(&file)
        .unwrap()
        .replace("- version: 1\n        steps", "version: 1\n      steps");
    let becomes = |shop: &mut Shop, versions: &[(u32, &str)]| {
        shop.kill();
        std::fs::write(&file, plan_of(&plan, versions)).unwrap();
        std::fs::write(&log, "").unwrap();
        shop.serve();
    };
    let begin = |shop: &Shop, id: &str| {
        let _ = std::fs::remove_file(&charged);
        shop.begin(id, "a book", "charge:wait");
        wait_until("it is charged", || {
            shop.books(id).contains(&format!("do {id}/charge"))
        });
    };
    let version_of = |shop: &Shop, id: &str| shop.until(id, "completed")["version"].clone();

    // The old one is kept beside the new one.
    begin(&shop, "old");
    becomes(&mut shop, &[(1, "POST /create/"), (2, "POST /make/")]);
    File::create(&charged).unwrap();
    assert_eq!(version_of(&shop, "old"), 1);
    assert_eq!(shop.order("new", "")["version"], 2);

    // It is gone, or another one under its number.
    for (round, versions) in [
        &[(3, "POST /make/")][..],
        &[(2, "POST /changed/"), (3, "POST /make/")],
    ]
    .into_iter()
    .enumerate()
    {
        let stuck = [format!("stuck-{round}-a"), format!("stuck-{round}-b")];
        for id in &stuck {
            begin(&shop, id);
        }
        becomes(&mut shop, versions);
        File::create(&charged).unwrap();
        wait_until("all of them are told", || {
            let told = std::fs::read_to_string(&log).unwrap();
            stuck.iter().all(|id| {
                told.lines().any(|line| {
                    line.contains(id) && line.contains("put that version back into the file")
                })
            })
        });
        let order = shop.order(&format!("beside-{round}"), "");
        assert_eq!(
            (&order["state"], &order["version"]),
            (&json!("completed"), &json!(3))
        );
        for id in &stuck {
            let (_, saga) = shop.ask("GET", &format!("/sagas/{id}"), "");
            assert_eq!(saga["state"], "open", "{saga}");
            let waits = saga["waiting_for"].as_str().unwrap();
            assert!(waits.contains("version 2 of `order`"), "{waits}");
            let by = r#"{"by": "ann", "reason": "test"}"#;
            let (status, told) = shop.ask("POST", &format!("/sagas/{id}/cancel"), by);
            assert_eq!(status, 409, "{told}");
            assert_eq!(shop.books(id), lines("do", id, &STEPS[..3]));
        }
        // What has ended is there for whoever looks, with or without its version.
        assert_eq!(shop.ask("GET", "/sagas/old", "").1["state"], "completed");
        // Somebody puts it back.
        becomes(&mut shop, &[(2, "POST /make/")]);
        for id in &stuck {
            assert_eq!(version_of(&shop, id), 2);
            assert_eq!(shop.books(id), lines("do", id, &STEPS));
        }
    }
}
