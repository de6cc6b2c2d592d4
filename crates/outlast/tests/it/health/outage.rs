//! Forty instances that lose their Redis for five seconds.

use std::sync::{Arc, Mutex};

use outlast::Health;
use outlast::health::{Config, probe};
use tokio::time::{Duration, Instant, sleep};

use super::servers::Redis;
use super::{MS, SECOND, eventually};

struct Instance {
    health: Health,
    probes: Arc<Mutex<Vec<Instant>>>,
}

impl Instance {
    fn new(redis: &Redis) -> Instance {
        let health = Health::new().unwrap();
        let probes = Arc::new(Mutex::new(Vec::new()));
        let ping = probe::redis(&redis.url()).unwrap();
        let seen = Arc::clone(&probes);
        let config = Config::default()
            .interval(SECOND)
            .timeout(500 * MS)
            .down_after(2);
        let probed = move || {
            seen.lock().unwrap().push(Instant::now());
            ping()
        };
        health.check("redis", config, probed).unwrap();
        Instance { health, probes }
    }

    /// Its first probe after a moment.
    fn probe_after(&self, moment: Instant) -> Option<Instant> {
        let probes = self.probes.lock().unwrap();
        probes.iter().copied().find(|probe| *probe > moment)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_drops_and_returns_and_nobody_dies_or_stampedes() {
    let mut redis = Redis::start(None).await;
    let instances: Vec<_> = (0..40).map(|_| Instance::new(&redis)).collect();
    let ready = || {
        let dead = |instance: &&Instance| {
            let live = instance.health.answer("/health/live").unwrap();
            live.status != 200
        };
        assert_eq!(instances.iter().filter(dead).count(), 0, "liveness failed");
        let ready = |instance: &&Instance| {
            let ready = instance.health.answer("/health/ready").unwrap();
            ready.status == 200
        };
        instances.iter().filter(ready).count()
    };
    eventually("all are ready", || ready() == 40).await;

    redis.stop();
    let stopped = Instant::now();
    eventually("all are not ready", || ready() == 0).await;
    assert!(
        stopped.elapsed() < 5 * SECOND,
        "they notice within the outage"
    );
    while stopped.elapsed() < 5 * SECOND {
        assert_eq!(ready(), 0, "nobody flaps");
        sleep(10 * MS).await;
    }

    let restarted = Instant::now();
    redis.start_again().await;
    let back = Instant::now();
    eventually("all are ready again", || ready() == 40).await;
    let took = back.elapsed();
    assert!(took < 2 * SECOND, "readiness took {took:?} to return");

    let first = |instance: &Instance| instance.probe_after(restarted).unwrap();
    let mut probes: Vec<_> = instances.iter().map(first).collect();
    probes.sort_unstable();
    let offsets: Vec<_> = probes.iter().map(|probe| *probe - restarted).collect();
    assert!(offsets[39] - offsets[0] >= 200 * MS, "{offsets:?}");
    let busiest = busiest(&offsets, 50 * MS);
    assert!(busiest <= 20, "{busiest} of 40 at once: {offsets:?}");
    for instance in &instances {
        let probes = instance.probes.lock().unwrap();
        for pair in probes.windows(2) {
            // Timers fire up to a tick late, so a later probe may seem a little early.
            assert!(pair[1] - pair[0] >= 900 * MS, "{:?}", pair[1] - pair[0]);
        }
    }
}

/// The most of these sorted moments that lie within so long.
fn busiest(moments: &[Duration], within: Duration) -> usize {
    let from = |start: &Duration| {
        let near = |moment: &&Duration| **moment >= *start && **moment - *start < within;
        moments.iter().filter(near).count()
    };
    moments.iter().map(from).max().unwrap_or(0)
}
