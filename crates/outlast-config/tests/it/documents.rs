//! The guide, the reference and the starter file say what holds.

const GUIDE: &str = include_str!("../../../../docs/policy-file.md");
const CANARY: &str = include_str!("../../../../docs/canary.md");
const DEGRADATION: &str = include_str!("../../../../docs/degradation.md");
const GATEWAY: &str = include_str!("../../../../docs/gateway.md");
const REDUNDANCY: &str = include_str!("../../../../docs/redundancy.md");
const PROVIDERS: &str = include_str!("../../../../docs/providers.md");
const QUEUES: &str = include_str!("../../../../docs/queues.md");
const SAGAS: &str = include_str!("../../../../docs/sagas.md");
const SCENARIOS: &str = include_str!("../../../../docs/scenarios.md");
const OVERLOAD: &str = include_str!("../../../../docs/overload.md");

#[test]
fn every_file_in_the_guides_is_good() {
    let mut found = 0;
    for guide in [
        GUIDE,
        GATEWAY,
        CANARY,
        OVERLOAD,
        DEGRADATION,
        REDUNDANCY,
        PROVIDERS,
        QUEUES,
        SAGAS,
    ] {
        for block in guide.split("```yaml\n").skip(1) {
            let text = block.split("```").next().unwrap();
            let loaded = outlast_config::parse("guide.yaml", text);
            let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
            assert!(loaded.warnings().is_empty(), "{:?}", loaded.warnings());
            found += 1;
        }
    }
    assert!(found >= 6, "{found}");
}

#[test]
fn the_reference_is_that_of_the_code() {
    let reference = outlast_config::reference();
    assert!(
        GUIDE.contains(&reference),
        "put the output of `outlast schema --markdown` at the end of docs/policy-file.md"
    );
}

#[test]
fn the_reference_of_scenarios_is_that_of_the_code() {
    let reference = outlast_config::scenario_reference();
    assert!(
        SCENARIOS.contains(&reference),
        "put the output of `outlast schema --scenario --markdown` at the end of docs/scenarios.md"
    );
}

#[test]
fn every_section_of_scenarios_is_told_once() {
    let reference = outlast_config::scenario_reference();
    let mut names: Vec<_> = reference
        .lines()
        .filter(|line| line.starts_with("### "))
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
}

#[test]
fn the_scenario_in_the_guide_is_good() {
    let block = SCENARIOS.split("```yaml\n").nth(1).unwrap();
    let text = block.split("```").next().unwrap();
    let policy = "routes: { buy: { match: POST /orders, upstream: buy }, track: { match: /**, upstream: track } }\n\
                  upstreams: { buy: { endpoints: { shop: http://s:1 } }, track: { endpoints: { shop: http://s:1 } }, \
                  payment: { endpoints: http://p:1 }, shipping: { endpoints: http://h:1 } }";
    let draft = outlast_config::scenario::parse("guide.yaml", text).unwrap();
    let scenario = draft.bind(&crate::plan(policy));
    let scenario = scenario.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((scenario.clients.len(), scenario.promises.len()), (2, 4));
}

#[test]
fn the_starter_file_is_good() {
    let loaded = outlast_config::parse("starter.yaml", outlast_config::STARTER).unwrap();
    assert!(loaded.warnings().is_empty());
    assert!(loaded.explain(None).unwrap().contains("upstream stock"));
}

#[test]
fn the_schema_knows_every_key_of_the_reference() {
    let schema: serde_json::Value = serde_json::from_str(&outlast_config::schema()).unwrap();
    fn keys(value: &serde_json::Value, found: &mut Vec<String>) {
        if let Some(properties) = value.get("properties").and_then(|it| it.as_object()) {
            found.extend(properties.keys().cloned());
        }
        match value {
            serde_json::Value::Object(map) => map.values().for_each(|value| keys(value, found)),
            serde_json::Value::Array(items) => items.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    let mut known = Vec::new();
    keys(&schema, &mut known);
    let reference = outlast_config::reference();
    let rows = reference
        .lines()
        .filter_map(|line| line.strip_prefix("| `"));
    let mut count = 0;
    for key in rows.map(|row| row.split('`').next().unwrap()) {
        assert!(known.iter().any(|known| known == key), "{key}");
        count += 1;
    }
    assert!(count > 100, "{count}");
}
