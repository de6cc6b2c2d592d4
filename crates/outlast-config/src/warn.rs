//! What can work, but is likely not meant.

mod canary;
mod exclusive;
mod queue;
mod saga;

use std::time::Duration;

use crate::plan::{Match, Plan, Repeat, Segment};
use crate::policies::section_of;
use crate::problem::Problem;
use crate::sections;
use crate::value;
use crate::view::View;
use crate::yaml::{Entry, Node};

/// Looks at a file that has no errors.
pub(crate) fn warnings(root: &Node, plan: &Plan) -> Vec<Problem> {
    let file = View::new(root, &sections::FILE);
    let mut found = Vec::new();
    let (routes, upstreams) = (file.names("routes"), file.names("upstreams"));
    for (at, entry) in routes.iter().enumerate() {
        of_route(entry, at, plan, &mut found);
    }
    for at in 0..upstreams.len() {
        of_upstream(upstreams, at, plan, &mut found);
    }
    crate::degrade::warn(file, plan, &mut found);
    saga::of_sagas(file, &mut found);
    queue::of_queues(file, plan, &mut found);
    let is_used = plan.sagas.is_some() || !plan.queues.is_empty();
    if let Some(store) = file.entry("store").filter(|_| !is_used) {
        let mend = "remove it, or add `sagas` or `queues`";
        found.push(Problem::new(store.key_place, "nothing is kept in it", mend));
    }
    found
}

fn of_route(entry: &Entry, at: usize, plan: &Plan, found: &mut Vec<Problem>) {
    let route = &plan.routes[at];
    let view = View::new(&entry.node, &sections::ROUTE);
    let earlier = plan.routes[..at].iter();
    if let Some(before) = earlier
        .clone()
        .find(|before| covers(&before.matching, &route.matching))
    {
        let message = format!(
            "no request takes this route: `{}` takes them all before",
            before.name
        );
        found.push(Problem::new(
            entry.key_place,
            message,
            "put the narrower route first",
        ));
    }
    let methods = &route.matching.methods;
    let writes = methods.is_empty()
        || methods
            .iter()
            .any(|method| method == "POST" || method == "PATCH");
    if route.repeat == Repeat::Always && writes {
        let mend =
            "keep `safe` and let clients send an idempotency key, or `idempotency_key: make`";
        found.push(Problem::new(
            view.value_place("retry"),
            "a POST may be made twice, also without a key",
            mend,
        ));
    }
    canary::of_canary(view, route, plan, found);
    let upstream = &plan.upstreams[route.upstream];
    let reads = methods.is_empty() || methods.iter().any(|method| method == "GET");
    if upstream.fallback.stale.is_some() && !reads {
        let message = format!(
            "`{}` answers stale GETs only, and this route has none",
            upstream.name
        );
        found.push(Problem::new(
            view.value_place("upstream"),
            message,
            "a `static` fallback also answers writes",
        ));
    }
}

/// Whether every request that `b` takes is taken by `a`.
fn covers(a: &Match, b: &Match) -> bool {
    let methods = a.methods.is_empty()
        || (!b.methods.is_empty() && b.methods.iter().all(|method| a.methods.contains(method)));
    let hosts = a.host.is_none() || a.host == b.host;
    let headers = a.headers.iter().all(|header| b.headers.contains(header));
    let segments = a.path.segments.len() <= b.path.segments.len()
        && a.path
            .segments
            .iter()
            .zip(&b.path.segments)
            .all(|(a, b)| *a == Segment::Any || a == b);
    let longer = b.path.open || b.path.segments.len() > a.path.segments.len();
    methods && hosts && headers && segments && (a.path.open || !longer)
}

fn of_upstream(upstreams: &[Entry], at: usize, plan: &Plan, found: &mut Vec<Problem>) {
    let entry = &upstreams[at];
    let view = View::new(&entry.node, &sections::UPSTREAM);
    let name = &entry.key;
    let mut warn = |key: &str, message: String, mend: &str| {
        found.push(Problem::new(view.place_of(key), message, mend));
    };
    let routes: Vec<_> = plan
        .routes
        .iter()
        .filter(|route| {
            let canary = route.canary.as_ref();
            route.upstream == at || canary.is_some_and(|canary| canary.upstream == at)
        })
        .collect();
    let is_fallback = plan
        .upstreams
        .iter()
        .any(|upstream| upstream.fallback.upstream == Some(at));
    let requests = plan.sagas.iter().flat_map(|sagas| sagas.requests());
    let is_step = requests.into_iter().any(|request| request.upstream == at);
    if routes.is_empty() && !is_fallback && !is_step {
        found.push(Problem::new(
            entry.key_place,
            format!("nothing uses `{name}`"),
            "name it in a route or in a saga, or remove it",
        ));
        return;
    }
    let times = Times::of(view, routes.iter().filter_map(|route| route.deadline).min());
    if let Some((attempts, waits)) = times.too_long() {
        let message = format!(
            "{attempts} attempts of {:?} and their waits ({waits:?}) do not fit in the deadline of {:?}",
            times.timeout,
            times.deadline.unwrap_or_default()
        );
        warn(
            "retry",
            message,
            "lower `timeout` or `attempts`, or allow more time",
        );
    }
    if view.node_of("hedge").is_some() && view.text("budget") == Some("off") {
        warn(
            "hedge",
            "hedges without a budget double the load when everything is slow".to_owned(),
            "leave `budget` at its default",
        );
    }
    let hedge = view.part("hedge", section_of(&sections::UPSTREAM, "hedge"));
    if hedge
        .duration("after")
        .is_some_and(|after| after >= times.timeout)
    {
        warn(
            "hedge",
            "an attempt has timed out before its hedge starts".to_owned(),
            "hedge sooner than `timeout`",
        );
    }
    let slow = view
        .given_part("breaker", &sections::BREAKER)
        .and_then(|breaker| {
            let section = section_of(&sections::BREAKER, "slow");
            breaker.given_part("slow", section)?.duration("after")
        });
    if let Some((delay, slow)) = hedge.duration("after").zip(slow)
        && delay < slow
    {
        let message = format!(
            "hedges after {delay:?} cut attempts before they are slow by the breaker's {slow:?}"
        );
        warn(
            "hedge",
            message,
            "hedge after `breaker.slow.after`, or the breaker sees nothing slow",
        );
    }
    if let Some(window) = times.window
        && window < times.timeout * 2
    {
        let message = format!(
            "the breaker's window of {window:?} is shorter than two attempts of {:?}",
            times.timeout
        );
        warn(
            "breaker",
            message,
            "make `within` longer or `timeout` shorter, or a hang will not trip it",
        );
    }
    let attempts = view
        .given_part("retry", section_of(&sections::UPSTREAM, "retry"))
        .and_then(|retry| retry.count("attempts"));
    if view.node_of("failover").is_some() && attempts == Some(1) {
        warn(
            "failover",
            "with one attempt there is no failover".to_owned(),
            "allow as many attempts as there are endpoints",
        );
    }
    exclusive::of_upstream(view, &plan.upstreams[at], found);
    queue::of_upstream(view, &plan.upstreams[at], &routes, found);
    let mut warn = |key: &str, message: String, mend: &str| {
        found.push(Problem::new(view.place_of(key), message, mend));
    };
    let next = plan.upstreams[at]
        .fallback
        .upstream
        .map(|next| &upstreams[next].node);
    let next_retries = next.is_some_and(|next| next.entry("retry").is_some());
    if view.node_of("retry").is_some() && next_retries {
        warn(
            "fallback",
            "its retries multiply with those of the upstream that it falls back to".to_owned(),
            "let only one of the two retry",
        );
    }
    let own = plan.gateway.listen.iter().map(|listener| listener.address);
    let loops = plan.upstreams[at].endpoints.iter().any(|endpoint| {
        own.clone().any(|own| {
            own.port() == endpoint.port
                && endpoint
                    .host
                    .parse()
                    .is_ok_and(|host: std::net::IpAddr| host == own.ip())
        })
    });
    if loops {
        warn(
            "endpoints",
            "an endpoint is this gateway itself: requests would go in circles".to_owned(),
            "name the service's own address",
        );
    }
}

/// The times of an upstream that have to fit together.
struct Times {
    deadline: Option<Duration>,
    timeout: Duration,
    attempts: u32,
    wait: Duration,
    window: Option<Duration>,
}

impl Times {
    fn of(view: View<'_>, route: Option<Duration>) -> Times {
        let deadline = [route, view.duration("deadline")]
            .into_iter()
            .flatten()
            .min();
        let timeout = view.duration("timeout").unwrap_or(Duration::from_secs(30));
        let retry = view.part("retry", section_of(&sections::UPSTREAM, "retry"));
        let is_written = view.node_of("timeout").is_some();
        let backoff = retry.part("backoff", &sections::BACKOFF);
        let breaker = view.given_part("breaker", &sections::BREAKER);
        let window = breaker.and_then(|breaker| {
            let uses_window = ["failures", "ratio", "slow"]
                .iter()
                .any(|rule| breaker.node_of(rule).is_some());
            breaker
                .text("within")
                .filter(|_| uses_window)
                .and_then(|text| value::duration(text).ok())
        });
        Times {
            deadline,
            timeout,
            // Without a timeout of its own an attempt takes what the deadline leaves.
            attempts: match view.node_of("retry") {
                Some(_) if is_written => retry.count("attempts").unwrap_or(3),
                _ => 1,
            },
            wait: retry
                .duration("backoff")
                .or_else(|| backoff.duration("base"))
                .unwrap_or_default(),
            window: window.filter(|_| is_written),
        }
    }

    /// The attempts and their least waits, if they do not fit in the deadline.
    fn too_long(&self) -> Option<(u32, Duration)> {
        let waits = self.wait * self.attempts.saturating_sub(1);
        let all = self.timeout.saturating_mul(self.attempts) + waits;
        (self.attempts > 1 && self.deadline.is_some_and(|deadline| all > deadline))
            .then_some((self.attempts, waits))
    }
}
