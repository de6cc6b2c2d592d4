//! Any text is a plan, or all that is wrong with it; never a panic, and never without bounds.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    match outlast_config::parse("fuzz.yaml", text) {
        Ok(loaded) => drop(
            loaded
                .explain(None)
                .expect("all upstreams can be explained"),
        ),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
