//! What the guide says is shown by a test is shown by one that exists.

use std::path::Path;

#[test]
fn every_test_that_the_guide_names_is_there() {
    let guide = include_str!("../../../../docs/sagas.md");
    let (_, table) = guide.split_once("## How it is tested").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let named: Vec<_> = names
        .filter(|name| name.contains("::") && !name.contains("CRATE"))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for name in named {
        let (place, test) = name.split_once("::").unwrap();
        let (own, file) = place.split_once('/').unwrap();
        let path = format!("outlast-{own}/tests/it/{file}.rs");
        let text = std::fs::read_to_string(crates.join(&path));
        let text = text.unwrap_or_else(|error| panic!("{name}: {path}: {error}"));
        let (before, _) = text
            .split_once(&format!("fn {test}()"))
            .unwrap_or_else(|| panic!("{path} has no {test}"));
        let attribute = before.lines().rev().find(|line| line.starts_with("#["));
        assert!(attribute.unwrap().contains("test"), "{name} is no test");
    }
}
