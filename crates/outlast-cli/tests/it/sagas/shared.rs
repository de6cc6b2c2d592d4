//! Two gateways that share a database: what one leaves, the other ends.

use super::*;

#[path = "../../../../outlast-saga/tests/it/postgres/server.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "other tests use more of it than this one"
)]
pub(crate) mod server;

use self::server::Server;

/// Five services, a database, and two gateways.
struct Two {
    shop: Shop,
    admins: [SocketAddr; 2],
    second: Option<Child>,
    /// It ends last.
    _server: Server,
}

impl Drop for Two {
    fn drop(&mut self) {
        if let Some(mut second) = self.second.take() {
            let _ = second.kill();
            let _ = second.wait();
        }
    }
}

impl Two {
    fn open(lease: &str) -> Two {
        let server = Server::start();
        let database = server.database("shop");
        let addresses = SERVICES.map(|_| free());
        let admins = [free(), free()];
        let folder = tempfile::tempdir().unwrap();
        let plan = |admin: SocketAddr, name: &str| {
            let store = format!("{{ postgres: '{database}', name: {name}, lease: {lease} }}");
            format!("{}store: {store}\n", Shop::plan(&addresses, admin))
        };
        let second = plan(admins[1], "second");
        std::fs::write(folder.path().join("second.yaml"), second).unwrap();
        let first = plan(admins[0], "first");
        let shop = Shop::with(folder, addresses, admins[0], &first);
        let second = serve(&[], shop.folder.path(), "second.yaml", admins[1]);
        Two {
            shop,
            admins,
            second: Some(second),
            _server: server,
        }
    }

    fn ask(&self, which: usize, method: &str, path: &str, body: &str) -> (u16, Value) {
        ask_at(self.admins[which], method, path, "", body).unwrap()
    }

    fn start(&self, which: usize, id: &str, how: &str) {
        let input = json!({ "item": "a book", "how": how }).to_string();
        let (status, told) = self.ask(which, "POST", &format!("/sagas/order?id={id}"), &input);
        assert_eq!(status, 202, "{told}");
    }

    /// Waits until an order rests, as one of the gateways sees it, and compares the books.
    fn check(&self, which: usize, id: &str, how: &str) {
        let mut order = Value::Null;
        wait_until("it rests", || {
            order = self.ask(which, "GET", &format!("/sagas/{id}"), "").1;
            order["state"] == "completed" || order["state"] == "compensated"
        });
        let books = self.shop.books(id);
        let of = |prefix: &str| -> Vec<String> {
            let lines = books.iter().filter_map(|line| line.strip_prefix(prefix));
            lines.map(str::to_owned).collect()
        };
        let (done, undone) = (of("do "), of("undo "));
        if order["state"] == "completed" {
            assert!(["", "notify:down"].contains(&how), "{id}: {order}");
            assert!(done.len() >= 4 && undone.is_empty(), "{id}: {books:?}");
        } else {
            assert_eq!(done, undone, "{id}: {books:?}");
        }
        let mut once = books.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), books.len(), "{id}: {books:?}");
    }

    /// How many of these orders were begun again by somebody else than who began them.
    fn recovered(&self, which: usize, ids: impl Iterator<Item = String>) -> usize {
        let is_it = |id: &String| {
            let (_, log) = self.ask(which, "GET", &format!("/sagas/{id}/log"), "");
            log.to_string().contains("\"recovered\"")
        };
        ids.filter(is_it).count()
    }
}

const HOWS: [&str; 5] = ["", "ship:no", "notify:down", "ship:down", "charge:no"];

#[test]
fn a_gateway_that_is_killed_is_replaced_by_the_other() {
    let mut two = Two::open("1s");
    // What one of them does, the other does not touch, and says who does.
    two.start(0, "held", "ship:hang");
    wait_until("it ships", || {
        two.shop.books("held").contains(&"do held/ship".to_owned())
    });
    let by = json!({ "by": "ann", "reason": "test", "step": "ship" }).to_string();
    let (status, told) = two.ask(1, "POST", "/sagas/held/retry", &by);
    assert_eq!(status, 409, "{told}");
    assert_eq!(told["detail"], "another runner goes on with it: ask first");
    let by = json!({ "by": "ann", "reason": "test" }).to_string();
    let (status, told) = two.ask(1, "POST", "/sagas/held/cancel", &by);
    assert_eq!(status, 409, "{told}");
    let (status, told) = two.ask(0, "POST", "/sagas/held/cancel", &by);
    assert_eq!(status, 200, "{told}");

    let id = |number: usize| format!("order-{number}");
    for number in 0..40 {
        two.start(number % 2, &id(number), HOWS[number % HOWS.len()]);
    }
    two.shop.kill();
    two.check(1, "held", "cancelled");
    for number in 0..40 {
        two.check(1, &id(number), HOWS[number % HOWS.len()]);
    }
    let recovered = two.recovered(1, (0..40).map(id));
    assert!(recovered >= 1, "none was in flight when it was killed");
    let (_, all) = two.ask(1, "GET", "/sagas", "");
    assert_eq!(all["sagas"].as_array().unwrap().len(), 41);
}

#[test]
fn a_gateway_that_ends_leaves_its_orders_at_once() {
    // Nobody waits for a lease.
    let mut two = Two::open("10m");
    let id = |number: usize| format!("order-{number}");
    for number in 0..20 {
        two.start(1, &id(number), HOWS[number % HOWS.len()]);
    }
    let mut second = two.second.take().unwrap();
    let process = second.id().to_string();
    let ended = Command::new("kill").arg(&process).status().unwrap();
    assert!(ended.success());
    assert!(second.wait().unwrap().success());
    for number in 0..20 {
        two.check(0, &id(number), HOWS[number % HOWS.len()]);
    }
    let recovered = two.recovered(0, (0..20).map(id));
    assert!(recovered >= 1, "all had ended with their gateway");
}

#[test]
fn a_password_of_the_environment_is_used_and_never_told() {
    let folder = tempfile::tempdir().unwrap();
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = refusing.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = refusing.accept().unwrap();
        let mut start = [0; 512];
        let _ = stream.read(&mut start).unwrap();
        // It wants the password in clear text.
        stream.write_all(b"R\0\0\0\x08\0\0\0\x03").unwrap();
        let read = stream.read(&mut start).unwrap();
        String::from_utf8_lossy(&start[..read]).into_owned()
    });
    let plan = format!(
        "gateway: {{ listen: 127.0.0.1:0, admin: {} }}
store: {{ postgres: 'postgres://shop@{address}/shop?sslmode=disable', password: {{ env: SHOP_PASSWORD }} }}
upstreams: {{ shop: {{ endpoints: http://127.0.0.1:1 }} }}
sagas: {{ definitions: {{ order: {{ version: 1, steps: [{{ name: a, upstream: shop, request: GET /a }}] }} }} }}",
        free()
    );
    std::fs::write(folder.path().join("outlast.yaml"), plan).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_outlast"))
        .args(["serve", "outlast.yaml"])
        .current_dir(folder.path())
        .env("SHOP_PASSWORD", "orange-7")
        .output()
        .unwrap();
    assert!(asked.join().unwrap().contains("orange-7"));
    let told = text(&output.stdout) + &text(&output.stderr);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("store.postgres"), "{told}");
    assert!(!told.contains("orange"), "{told}");
}
