//! Blocking code: retries on the caller's thread, a bulkhead as a guard, and a pool of threads
//! with real timeouts.

use std::time::Duration;

use outlast::{Bulkhead, Config, Error, Upstream, bulkhead, deadline, retry};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::new("files").retry(retry::Config::attempts(3));
    let files = Upstream::new(config)?;
    let read = files.call_blocking(|attempt| {
        println!(
            "attempt {} may take {:?}",
            attempt.number(),
            attempt.remaining()
        );
        if attempt.number() < 3 {
            Err("the share is not mounted")
        } else {
            Ok("contents")
        }
    });
    println!("read: {read:?}");

    let printers = Bulkhead::new(bulkhead::Config::new(1))?;
    let seat = printers.try_acquire()?;
    println!("a second one: {:?}", printers.try_acquire().map(|_| ()));
    drop(seat);

    let config = Config::new("reports")
        .bulkhead(bulkhead::Config::new(2).queue(8))
        .deadline(deadline::Config::attempt_only(Duration::from_millis(50)));
    let reports = Upstream::new(config)?;
    let pool = reports.pool(2)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let report = runtime.block_on(pool.call(|_| {
        let thread = std::thread::current();
        Ok::<_, &str>(format!(
            "computed on {}",
            thread.name().unwrap_or("a thread")
        ))
    }));
    println!("report: {report:?}");

    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let never = std::sync::Mutex::new(never);
    let hung = pool.call(move |_| match never.lock() {
        Ok(never) => never.recv().map_err(|_| "the sender is gone"),
        Err(_) => Err("poisoned"),
    });
    match runtime.block_on(hung) {
        Err(Error::Rejected(rejection)) => println!("a hung thread does not hang us: {rejection}"),
        other => println!("unexpected: {other:?}"),
    }
    Ok(())
}
