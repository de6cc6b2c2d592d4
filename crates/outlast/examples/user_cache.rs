//! A breaker and stale answers: profiles stay readable while the user service is down.

use std::time::Duration;

use outlast::{Answer, Config, Stale, Upstream, breaker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::new("users").breaker(breaker::Config::consecutive(3));
    let users = Upstream::new(config)?;
    let profiles = Stale::new(10_000, Duration::from_secs(300))?;

    for is_down in [false, true, true, true, true] {
        let call = users.call(|_| load_profile("ann", is_down));
        match call.fallback_stale(&profiles, "ann").await {
            Ok(Answer::Fresh(profile)) => println!("fresh: {profile}"),
            Ok(Answer::Cached { value, age }) => println!("cached {age:?} ago: {value}"),
            Ok(Answer::Stale { value, why, .. }) => println!("stale: {value}, because {why:?}"),
            Err(error) => println!("no profile: {error}"),
        }
    }
    let unknown = users.call(|_| load_profile("bob", true));
    match unknown.fallback_stale(&profiles, "bob").await {
        Err(error) => println!("nothing is remembered of bob, so the error shows: {error}"),
        Ok(answer) => println!("unexpected: {answer:?}"),
    }
    println!("answers by the fallback: {}", users.stats().fallbacks);
    Ok(())
}

async fn load_profile(name: &'static str, is_down: bool) -> Result<String, &'static str> {
    if is_down {
        Err("connection refused")
    } else {
        Ok(format!("{name}, customer since 2019"))
    }
}
