//! `examples/shop`, by hand: its services in processes of their own, the gateway with its policy file,
//! and what its README says.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::serve::free;
use crate::{text, wait_until};

const README: &str = include_str!("../../../../examples/shop/README.md");
const POLICIES: &str = include_str!("../../../../examples/shop/outlast.yaml");
const SERVICES: [&str; 5] = ["order", "inventory", "payment", "shipping", "notification"];
/// The ports that policies and page name: all services, customers, operators.
const PORTS: [u16; 9] = [7000, 7001, 7002, 7003, 7004, 7005, 7006, 8080, 9900];

/// The shop in a folder, at free ports.
struct Shop {
    folder: tempfile::TempDir,
    addresses: HashMap<u16, SocketAddr>,
    processes: HashMap<&'static str, Child>,
}

impl Drop for Shop {
    fn drop(&mut self) {
        for process in self.processes.values_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Shop {
    fn open() -> Shop {
        let mut shop = Shop {
            folder: tempfile::tempdir().unwrap(),
            addresses: PORTS.iter().map(|port| (*port, free())).collect(),
            processes: HashMap::new(),
        };
        std::fs::write(
            shop.folder.path().join("outlast.yaml"),
            shop.moved(POLICIES),
        )
        .unwrap();
        SERVICES.iter().for_each(|service| shop.start(service));
        shop.start("gateway");
        shop
    }

    /// With the addresses of this shop.
    fn moved(&self, text: &str) -> String {
        self.addresses
            .iter()
            .fold(text.to_owned(), |text, (port, address)| {
                text.replace(&format!("127.0.0.1:{port}"), &address.to_string())
            })
    }

    fn start(&mut self, name: &'static str) {
        let arguments = match name {
            "gateway" => "serve outlast.yaml".to_owned(),
            service => format!("demo --services {service} --ledgers ledgers --policy outlast.yaml"),
        };
        let process = Command::new(env!("CARGO_BIN_EXE_outlast"))
            .args(arguments.split(' '))
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.processes.insert(name, process.unwrap());
        let port = match name {
            "order" => 7000,
            "payment" => 7001,
            "inventory" => 7003,
            "shipping" => 7005,
            "notification" => 7006,
            _ => 9900,
        };
        let address = self.addresses[&port];
        wait_until("it listens", || TcpStream::connect(address).is_ok());
    }

    /// As `kill -9`.
    fn kill(&mut self, name: &'static str) {
        let mut process = self.processes.remove(name).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn signal(&self, name: &'static str, signal: &str) {
        let id = self.processes[name].id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// What a line of a shell says here.
    fn shell(&self, line: &str) -> String {
        let ran = Command::new("sh").args(["-c", &self.moved(line)]).output();
        text(&ran.unwrap().stdout)
    }

    fn ask(&self, path: &str) -> Value {
        let told = self.shell(&format!("curl -s 'http://127.0.0.1:9900/{path}'"));
        serde_json::from_str(&told).unwrap_or_default()
    }

    /// What is in the five ledgers of an order, on the disk.
    fn effects(&self, order: &str) -> Vec<String> {
        let mut found = Vec::new();
        for service in SERVICES {
            let file = Path::new("ledgers").join(format!("{service}.jsonl"));
            let lines = std::fs::read_to_string(self.folder.path().join(file)).unwrap();
            for line in lines.lines() {
                let entry: Value = serde_json::from_str(line).unwrap();
                if entry["order"] == order {
                    found.push(entry["effect"].as_str().unwrap().to_owned());
                }
            }
        }
        found
    }

    /// The steps of an order in the order in which they were undone.
    fn undone(&self, order: &str) -> Vec<Value> {
        let log = self.ask(&format!("sagas/{order}/log"));
        let records = log["records"].as_array().unwrap().iter();
        let events = records.flat_map(|record| record["events"].as_array().unwrap());
        let undone = events.filter(|event| event["event"] == "undone");
        undone.map(|event| event["step"].clone()).collect()
    }

    /// Does what a section of the page says, block by block, and sees what it says.
    fn follow(&self, section: &str) {
        let part = README.split("\n## ").find(|part| part.starts_with(section));
        let mut blocks = part.unwrap().split("```").skip(1).step_by(2);
        let mut seen = 0;
        while let (Some(block), Some(expected)) = (blocks.next(), blocks.next()) {
            let lines = block.strip_prefix("sh\n").unwrap().lines();
            let told: Vec<_> = lines.map(|line| self.shell(line)).collect();
            let told: Vec<_> = told.iter().map(|told| told.trim_end()).collect();
            let expected = expected.strip_prefix("json\n").unwrap();
            assert_eq!(told, expected.lines().collect::<Vec<_>>(), "{section}");
            seen += 1;
        }
        assert!(seen > 0, "{section}");
    }
}

#[test]
fn the_page_says_what_happens() {
    let mut shop = Shop::open();
    shop.follow("Order");
    let done = ["created", "reserved", "charged", "scheduled", "sent"];
    assert_eq!(shop.effects("order-1"), done);
    let back = [
        "created",
        "cancelled",
        "reserved",
        "released",
        "charged",
        "refunded",
    ];
    assert_eq!(shop.effects("order-2"), back);

    shop.kill("shipping");
    shop.follow("Shipping is down");
    // Whether the shipment was scheduled is known: nobody was there to take it.
    assert_eq!(shop.effects("order-3"), back);
    assert_eq!(shop.undone("order-3"), ["charge", "reserve", "create"]);
    shop.start("shipping");
    shop.kill("notification");
    shop.follow("Notification is down");
    assert_eq!(shop.effects("order-4"), done[..4]);
}

/// Nobody knows whether a service that hangs has done its work, nor does a gateway that was killed.
#[test]
fn an_order_survives_a_service_that_hangs_and_the_death_of_the_gateway() {
    let mut shop = Shop::open();
    // Its policies have seen it once, so that nothing is new to them.
    shop.shell(
        "curl -s 'http://127.0.0.1:9900/sagas/order?id=first&wait=10s' -d '{\"item\": \"a book\"}'",
    );
    shop.signal("shipping", "-STOP");
    shop.shell("curl -s 'http://127.0.0.1:9900/sagas/order?id=held' -d '{\"item\": \"a book\", \"euros\": 20}'");
    wait_until("it goes back", || {
        shop.ask("sagas/held")["direction"] == "back"
    });
    shop.kill("gateway");
    assert_eq!(shop.effects("held"), ["created", "reserved", "charged"]);
    shop.start("gateway");
    shop.signal("shipping", "-CONT");
    wait_until("it is undone", || {
        shop.ask("sagas/held")["state"] == "compensated"
    });
    assert_eq!(shop.undone("held"), ["ship", "charge", "reserve", "create"]);
    let effects = shop.effects("held");
    for (done, undone) in [
        ("created", "cancelled"),
        ("reserved", "released"),
        ("charged", "refunded"),
    ] {
        let count = |word: &str| effects.iter().filter(|effect| *effect == word).count();
        assert_eq!((count(done), count(undone)), (1, 1), "{effects:?}");
    }
    // It took the shipment when it woke up, and called it off; or it was asked to call it off before.
    let shipped: Vec<_> = effects
        .iter()
        .filter(|effect| effect.contains("schedul") || effect.contains("call"))
        .collect();
    let called_off = [vec!["scheduled", "called off"], vec!["nothing to call off"]];
    assert!(
        called_off.iter().any(|possible| *possible == shipped),
        "{effects:?}"
    );
}

/// A ledger goes on after `kill -9` of its service, and a key is done once over all of it.
#[test]
fn a_killed_service_knows_what_it_did() {
    let mut shop = Shop::open();
    let charge = "curl -s -X POST http://127.0.0.1:7001/charges/mine -H 'Idempotency-Key: mine/charge' -d '{\"euros\": 5}'";
    let done = json!({ "id": "charges/mine", "got": { "euros": 5 } });
    for _ in 0..2 {
        assert_eq!(
            serde_json::from_str::<Value>(&shop.shell(charge)).unwrap(),
            done
        );
        shop.kill("payment");
        shop.start("payment");
    }
    assert_eq!(shop.effects("mine"), ["charged"]);
    let keyless = shop.shell("curl -s -X POST http://127.0.0.1:7001/charges/mine");
    assert!(keyless.contains("send an Idempotency-Key"), "{keyless}");
}
