//! The canaries of routes: under the old version with their settings, under the new one by name.

use super::{described, line, setting};
use crate::Loaded;
use crate::plan::Route;
use crate::sections;

/// What a route does with the upstream at this place of the plan.
pub(super) fn explain_route(page: &mut String, loaded: &Loaded, route: &Route, upstream: usize) {
    if route.upstream == upstream {
        line(page, 1, format_args!("{}", described(route)));
        let routes = loaded.root.entry("routes");
        let node = routes.and_then(|routes| routes.node.entry(&route.name));
        if let Some(given) = node.and_then(|route| route.node.entry("canary")) {
            let key = sections::ROUTE.key("canary");
            let key = key.expect("the canary of a route is described");
            setting(page, Some(&given.node), key, 2);
        }
    }
    if let Some(canary) = &route.canary
        && canary.upstream == upstream
    {
        let old = &loaded.plan.upstreams[route.upstream].name;
        let text = format_args!("canary of {}, instead of {old}", described(route));
        line(page, 1, text);
    }
}
