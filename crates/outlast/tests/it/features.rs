//! Features of an application, in paused time.

use std::cell::RefCell;
use std::time::Duration;

use outlast::degrade::{Condition, Config, Limit, Mode, Quantile, Why};
use outlast::outcome::Outcome;
use outlast::ratio::Ratio;
use outlast::tier::Tier;
use outlast::{Features, Setup, Upstream, breaker, budget, bulkhead, retry, shed};
use tokio::time::{advance, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// Recommendations are off when half of the calls take more than 500 ms.
fn lean() -> Config {
    let slow = Condition::Latency(Quantile::P50, Limit::Above(Duration::from_millis(500)));
    Config::default()
        .feature("checkout", Tier::Critical)
        .feature("recommendations", Tier::Optional)
        .mode(Mode::new("lean").when(slow).disable(Tier::Optional))
}

fn on_sight(condition: Condition) -> Features {
    let mode = Mode::new("mode")
        .when(condition)
        .after(Duration::ZERO)
        .off_after(SECOND)
        .disable(Tier::Optional);
    Features::new(Config::default().mode(mode)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn slow_calls_switch_a_feature_off_and_fast_ones_on() {
    let features = Features::new(lean()).unwrap();
    let setup = Setup::default().observer(features.clone());
    let shop = Upstream::with(outlast::Config::new("shop"), setup).unwrap();
    let switches = RefCell::new(Vec::new());
    let note = |switch: &outlast::degrade::Switch| {
        let name = features.modes().name(switch.to).to_owned();
        switches.borrow_mut().push((name, switch.why.to_string()));
    };
    let calls = async {
        let call = |takes: Duration, times: u32| {
            let shop = &shop;
            async move {
                for _ in 0..times {
                    let answer = shop.call(|_| async move {
                        sleep(takes).await;
                        Ok::<_, ()>(())
                    });
                    answer.await.unwrap();
                }
            }
        };
        call(Duration::from_millis(100), 100).await;
        assert!(features.enabled("recommendations"));
        // 19 and more of them in a window of 10 s.
        tokio::join!(call(800 * SECOND / 1000, 60), call(800 * SECOND / 1000, 60));
        assert!(!features.enabled("recommendations"));
        assert!(features.enabled("checkout"));
        assert_eq!(features.mode(), "lean");
        assert!(!features.allows(Tier::Optional) && features.allows(Tier::Important));
        call(Duration::from_millis(100), 600).await;
        assert!(features.enabled("recommendations"));
    };
    tokio::select! {
        never = features.run(note) => match never {},
        () = calls => {}
    }
    let switches = switches.into_inner();
    assert_eq!(switches.len(), 2, "once each way: {switches:?}");
    assert_eq!(
        (switches[0].0.as_str(), switches[1].0.as_str()),
        ("lean", "normal")
    );
    assert!(
        switches[0].1.starts_with("p50 > 500ms for 10s (now "),
        "{switches:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_counts_until_nobody_asks_any_more() {
    let features = on_sight(Condition::Open(Some("db".into())));
    let config = outlast::Config::new("db").breaker(
        breaker::Config::consecutive(1).cooldown(outlast::backoff::Backoff::constant(10 * SECOND)),
    );
    let db = Upstream::new(config).unwrap();
    features.watch(&db);
    features.watch(&db);
    assert_eq!(features.tick(), None);
    let _ = db.call_blocking(|_| Err::<(), _>("down"));
    let switch = features.tick().unwrap();
    assert!(matches!(switch.why, Why::Began(_)));
    let mut lasted = 0;
    while features.mode() == "mode" {
        advance(SECOND).await;
        features.tick();
        lasted += 1;
        assert!(lasted < 60, "a mode that stops all calls ends");
    }
    // The cooldown, the time that nobody asks, and the calm.
    assert!((15..=17).contains(&lasted), "{lasted}");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_gone_is_not_looked_at() {
    let features = on_sight(Condition::Open(None));
    let config = outlast::Config::new("db").breaker(breaker::Config::consecutive(1));
    let setup = Setup::default().observer(features.clone());
    let db = Upstream::with(config, setup).unwrap();
    features.watch(&db);
    assert!(db.force_breaker("main", breaker::Manual::Open));
    assert_eq!(features.signals(|signals| signals.open.len()), 1);
    drop(db);
    assert_eq!(features.signals(|signals| signals.open.len()), 0);
}

#[tokio::test(start_paused = true)]
async fn load_is_that_of_the_fullest_bulkhead() {
    let features = on_sight(Condition::Load(Limit::Above(Ratio::percent(40))));
    let upstream = |name: &str, seats| {
        let config = outlast::Config::new(name).bulkhead(bulkhead::Config::new(seats));
        let upstream = Upstream::new(config).unwrap();
        features.watch(&upstream);
        upstream
    };
    let (_large, small) = (upstream("large", 100), upstream("small", 2));
    assert_eq!(features.signals(|signals| signals.load), Some(Ratio::ZERO));
    let call = small.call(|_| async {
        assert_eq!(
            features.signals(|signals| signals.load),
            Some(Ratio::percent(50))
        );
        assert!(features.tick().is_some());
        Ok::<_, ()>(())
    });
    call.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn load_is_the_mean_of_a_second_and_a_shedder_has_one_too() {
    let features = on_sight(Condition::Load(Limit::Above(Ratio::percent(70))));
    let config = outlast::Config::new("db").shed(shed::Config::new(shed::Limit::fixed(1)));
    let db = Upstream::new(config).unwrap();
    features.watch(&db);
    let load = || features.signals(|signals| signals.load).unwrap().as_f64();
    features.tick();
    let call = db.call(|_| async {
        for (expected, switches) in [(0.5, false), (2.0 / 3.0, false), (0.75, true), (1.0, false)] {
            let switch = features.tick();
            assert!(
                (load() - expected).abs() < 1e-5,
                "{} for {expected}",
                load()
            );
            assert_eq!(switch.is_some(), switches, "{expected}");
        }
        Ok::<_, ()>(())
    });
    call.await.unwrap();
    features.tick();
    assert!((load() - 0.75).abs() < 1e-5, "{}", load());
}

#[tokio::test(start_paused = true)]
async fn the_load_is_that_of_the_policy_that_is_nearer_to_its_limit_and_enforced() {
    let load = async |config: outlast::Config| {
        let features = on_sight(Condition::Load(Limit::Above(Ratio::percent(70))));
        let db = Upstream::new(config).unwrap();
        features.watch(&db);
        let call = db.call(|_| async {
            let load = features.signals(|signals| signals.load);
            Ok::<_, ()>(load.map(Ratio::as_f64))
        });
        call.await.unwrap()
    };
    let shed = |calls| shed::Config::new(shed::Limit::fixed(calls));
    let both = outlast::Config::new("db").shed(shed(10));
    let full = both.bulkhead(bulkhead::Config::new(1).queue(9));
    assert_eq!(load(full).await, Some(1.0));
    let looks_on = outlast::Config::new("db").shed(shed(1).enforce(false));
    assert_eq!(load(looks_on).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_used_up_is_a_sign() {
    let features = on_sight(Condition::Exhausted);
    let config = outlast::Config::new("db")
        .retry(retry::Config::attempts(3).backoff(Duration::ZERO))
        .budget(Some(budget::Config::default().reserve(1)));
    let db = Upstream::new(config).unwrap();
    features.watch(&db);
    assert_eq!(features.tick(), None);
    let _ = db.call_blocking(|_| Err::<(), _>("down"));
    assert!(features.tick().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_hand_decides_for_its_time() {
    let features = Features::new(lean()).unwrap();
    let error = features.force("fat", SECOND).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no mode `fat`; the modes are: normal, lean"
    );
    features.force("lean", 3 * SECOND).unwrap().unwrap();
    assert!(!features.enabled("recommendations"));
    for _ in 0..2 {
        advance(SECOND).await;
        assert_eq!(features.tick(), None);
    }
    advance(SECOND).await;
    assert_eq!(features.tick().unwrap().why, Why::Expired);
    features.force("lean", Duration::MAX).unwrap();
    advance(1000 * 3600 * SECOND).await;
    assert_eq!(features.tick(), None);
    assert_eq!(features.release().unwrap().why, Why::Released);
    assert!(features.enabled("recommendations"));
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_no_upstreams_are_recorded_by_hand() {
    let features = on_sight(Condition::Errors(Limit::Above(Ratio::percent(10))));
    for _ in 0..20 {
        features.record(Outcome::Transient, SECOND);
    }
    assert!(features.tick().is_some());
    assert!(features.enabled("a feature that nobody has declared"));
}
