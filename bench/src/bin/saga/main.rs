//! The processes of `cargo xtask bench saga` that are ours: five durable steps in several shapes.
//!
//! ```text
//! saga inside FILE AT_ONCE WARM_UP MEASURED         a program that runs its own sagas, on SQLite
//! saga shared URL NAME AT_ONCE WARM_UP MEASURED     one of several runners on a PostgreSQL
//! saga front ADDRESS FILE                           a server that starts them; its steps are its own
//! saga service ADDRESS                              does the steps of a gateway's sagas
//! saga client ADDRESS PATH AT_ONCE WARM_UP MEASURED starts them over HTTP, and waits for their end
//! saga leave FILE COUNT                             begins them and never ends a step
//! saga resume FILE COUNT PACE                       goes on with them
//! saga settle FILE                                  writes what is in its log into the file
//! ```
//!
//! Each step gives some 40 bytes of JSON and costs nothing, so that what is measured is the engine. Times
//! are milliseconds.

mod front;
mod http;
mod inside;
mod load;
mod resume;

use std::path::PathBuf;
use std::process::ExitCode;

use self::load::Load;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let ran = match runtime {
        Ok(runtime) => runtime.block_on(run(std::env::args().skip(1))),
        Err(error) => Err(error.to_string()),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("saga: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(mut arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let mut next = |name: &str| arguments.next().ok_or(format!("{name} is not said"));
    match next("what it shall be")?.as_str() {
        "inside" => {
            let file = PathBuf::from(next("FILE")?);
            inside::embedded(&file, &Load::read(arguments)?).await
        }
        "shared" => {
            let (url, name) = (next("URL")?, next("NAME")?);
            inside::shared(&url, &name, &Load::read(arguments)?).await
        }
        "front" => {
            let address = next("ADDRESS")?;
            front::serve(&address, &PathBuf::from(next("FILE")?)).await
        }
        "service" => front::service(&next("ADDRESS")?).await,
        "client" => {
            let (address, path) = (next("ADDRESS")?, next("PATH")?);
            http::load(&address, &path, &Load::read(arguments)?).await
        }
        "leave" => {
            let file = PathBuf::from(next("FILE")?);
            resume::leave(&file, number(&next("COUNT")?)?).await
        }
        "resume" => {
            let file = PathBuf::from(next("FILE")?);
            let count = number(&next("COUNT")?)?;
            resume::resume(&file, count, number(&next("PACE")?)?).await
        }
        "settle" => inside::settle(&PathBuf::from(next("FILE")?)),
        other => Err(format!("it cannot be {other}")),
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no number of sagas"))
}
