//! What is kept of sagas that ended, and of the file when the gateway stops.

use super::*;

#[test]
fn logs_are_dropped_before_sagas_are_and_people_are_told() {
    let mut shop = Shop::open_with(tempfile::tempdir().unwrap(), Vec::new(), |plan| {
        plan.replace("  limits:", "  keep_log: 1ms\n  limits:")
    });
    assert_eq!(shop.order("one", "")["state"], "completed");
    assert_eq!(shop.order("two", "ship:no")["state"], "compensated");
    // Logs are looked at when it starts, and from time to time.
    shop.kill();
    shop.serve();
    for id in ["one", "two"] {
        wait_until("its log is dropped", || {
            shop.ask("GET", &format!("/sagas/{id}"), "").1["log_dropped"] == true
        });
    }
    let (status, one) = shop.ask("GET", "/sagas/one", "");
    assert_eq!((status, &one["state"]), (200, &json!("completed")), "{one}");
    assert!(one["ended"].is_string(), "{one}");
    let note = one["note"].as_str().unwrap();
    assert!(note.contains("sagas.keep_log"), "{note}");
    let (status, log) = shop.ask("GET", "/sagas/one/log", "");
    assert_eq!((status, &log["records"]), (200, &json!([])), "{log}");
    assert_eq!(
        (&log["log_dropped"], &log["note"]),
        (&json!(true), &one["note"])
    );
    let (_, all) = shop.ask("GET", "/sagas?state=compensated", "");
    assert_eq!(all["sagas"][0]["id"], "two", "{all}");

    // The id is taken: a late start begins nothing.
    let input = json!({ "item": "a/book", "count": 2, "how": "" }).to_string();
    let (status, told) = shop.ask("POST", "/sagas/order?id=one&wait=5s", &input);
    assert_eq!((status, &told["new"]), (200, &json!(false)), "{told}");
    assert_eq!(told["state"], "completed");
    let (status, told) = shop.ask("POST", "/sagas/order?id=one", "{}");
    assert_eq!(status, 409, "{told}");
    assert_eq!(shop.books("one"), lines("do", "one", &STEPS), "each once");
    let by = r#"{"by": "ann", "reason": "test"}"#;
    let (status, told) = shop.ask("POST", "/sagas/one/cancel", by);
    let detail = told["detail"].as_str().unwrap();
    assert_eq!(status, 409, "{told}");
    assert!(detail.contains("its log was dropped"), "{detail}");

    let (folder, admin) = (shop.folder.path(), shop.admin);
    let (code, told) = saga(folder, admin, &["show", "two"]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.starts_with("two  order v1  compensated\nbegan "),
        "{told}"
    );
    assert!(told.contains("its log was dropped"), "{told}");
    let (code, told) = saga(folder, admin, &["watch", "two"]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.starts_with("compensated: it ended, and its log was dropped"),
        "{told}"
    );
}

/// Who copies the file alone then has all of it.
#[test]
fn a_gateway_that_stops_leaves_no_log_beside_its_file() {
    let mut shop = Shop::open();
    assert_eq!(shop.order("one", "")["state"], "completed");
    let beside = |end: &str| shop_file(&shop, end);
    let (file, log) = (beside(""), beside("-wal"));
    assert!(
        std::fs::metadata(&log).unwrap().len() > 0,
        "it is written to"
    );
    let mut gateway = shop.gateway.take().unwrap();
    let process = gateway.id().to_string();
    let sent = Command::new("kill")
        .args(["-TERM", &process])
        .status()
        .unwrap();
    assert!(sent.success());
    assert!(gateway.wait().unwrap().success());
    assert!(!log.exists(), "the log is in the file");
    let copy = shop.folder.path().join("copy.db");
    std::fs::copy(file, &copy).unwrap();
    let plan = shop.folder.path().join("outlast.yaml");
    let text = std::fs::read_to_string(&plan).unwrap();
    std::fs::write(&plan, format!("{text}store: {{ sqlite: copy.db }}\n")).unwrap();
    shop.serve();
    assert_eq!(shop.ask("GET", "/sagas/one", "").1["state"], "completed");
}

fn shop_file(shop: &Shop, end: &str) -> PathBuf {
    shop.folder.path().join(format!("outlast.db{end}"))
}
