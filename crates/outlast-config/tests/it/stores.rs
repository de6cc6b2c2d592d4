//! The store of a file.

use std::path::PathBuf;
use std::time::Duration;

use outlast_config::plan::{Postgres, Secret, Setting, Store};

use crate::errors_of;

const FILE: &str = "
upstreams: { shop: { endpoints: http://127.0.0.1:1 } }
sagas: { definitions: { order: { version: 1, steps: [{ name: a, upstream: shop, request: GET /a }] } } }
";

#[test]
fn a_store_is_a_file_or_a_database() {
    let check = |store: &str, expected: Store| {
        let loaded = outlast_config::parse("test.yaml", &format!("{FILE}{store}")).unwrap();
        assert_eq!(loaded.plan().store, expected, "{store}");
        assert_eq!(loaded.warnings(), [], "{store}");
    };
    check("", Store::Sqlite(PathBuf::from("outlast.db")));
    check(
        "store: { sqlite: a/b.db }",
        Store::Sqlite(PathBuf::from("a/b.db")),
    );
    let plain = |text: &str| Postgres {
        settings: Setting::Plain(text.to_owned()),
        password: None,
        name: None,
        lease: Duration::from_secs(30),
    };
    check(
        "store: { postgres: 'postgres://shop@db/shop' }",
        Store::Postgres(plain("postgres://shop@db/shop")),
    );
    check(
        "store: { postgres: { env: DATABASE_URL }, password: { file: secret }, name: one, lease: 5s }",
        Store::Postgres(Postgres {
            settings: Setting::Kept(Secret::Environment("DATABASE_URL".to_owned())),
            password: Some(Secret::File(PathBuf::from("secret"))),
            name: Some("one".to_owned()),
            lease: Duration::from_secs(5),
        }),
    );
}

#[test]
fn a_store_that_cannot_be_is_told_with_its_mend() {
    let check = |text: &str, parts: &[&str]| {
        let told = errors_of(&format!("{FILE}{text}"));
        for part in parts {
            assert!(told.contains(part), "{text}: {part}: {told}");
        }
    };
    check(
        "store: { sqlite: a, postgres: 'postgres://db/a' }",
        &["test.yaml:4:10", "leave `sqlite` or `postgres` out"],
    );
    check("store: { sqlite: a, lease: 5s }", &["4:21", "`postgres`"]);
    check("store: { name: a }", &["`name` is of a database"]);
    check(
        "store: { postgres: db }",
        &["postgres://USER@HOST/DATABASE"],
    );
    check("store: { postgres: { env: A, file: b } }", &["either"]);
    check("store: { postgres: { env: A }, lease: 1ms }", &["`1s`"]);
    check("store: { postgres: { env: A }, lease: 2h }", &["`1h`"]);
    let old = FILE.replace("sagas: {", "sagas: { store: { sqlite: a.db },");
    let told = errors_of(&old);
    let mend = "move it to the top of the file: `store: { sqlite: PATH }`";
    assert!(told.contains("unknown key `store`"), "{told}");
    assert!(told.contains("3:10") && told.contains(mend), "{told}");
}

#[test]
fn a_store_that_nothing_uses_is_warned_of() {
    let loaded = outlast_config::parse("test.yaml", "store: { sqlite: a.db }").unwrap();
    let warnings = loaded.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].message(), "nothing is kept in it");
}

#[test]
fn explaining_a_store_shows_no_password() {
    let text = format!("{FILE}store: {{ postgres: 'postgres://shop:orange-7@db/shop' }}");
    let loaded = outlast_config::parse("test.yaml", &text).unwrap();
    let page = loaded.explain(None).unwrap();
    let store = "\nstore\n  postgres: postgres://shop:***@db/shop\n";
    assert!(page.contains(store), "{page}");
    assert!(page.contains("  lease: 30s (default)\n"), "{page}");
    assert!(!page.contains("orange"), "{page}");
}
