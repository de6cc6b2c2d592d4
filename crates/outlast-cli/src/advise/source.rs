//! Where a snapshot comes from: a running gateway, or a file.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Url};

use super::snapshot::Snapshot;

pub(super) fn is_url(source: &str) -> bool {
    source.contains("://")
}

/// An error says what to do.
pub(super) fn read(source: &str) -> Result<Snapshot, String> {
    if is_url(source) {
        let url = url(source)?;
        let text = fetch(&url)?;
        return Snapshot::parse(&text).map_err(|error| {
            format!("{url} is no status of a gateway: {error}; name the admin listener's URL")
        });
    }
    read_file(Path::new(source))
}

pub(super) fn read_file(file: &Path) -> Result<Snapshot, String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        format!("{name} cannot be read: {error}; a gateway's URL begins with http://")
    })?;
    Snapshot::parse(&text).map_err(|error| {
        format!(
            "{name} is no status of a gateway: {error}; save one with \
             `curl http://127.0.0.1:9900/status > status.json`"
        )
    })
}

fn url(source: &str) -> Result<Url, String> {
    let mut url: Url = source
        .parse()
        .map_err(|error| format!("{source} is no URL: {error}; such as http://127.0.0.1:9900"))?;
    if url.scheme() != "http" {
        return Err(format!(
            "{source}: the admin listener speaks no TLS; write http://"
        ));
    }
    if url.path() == "/" {
        url.set_path("/status");
    }
    Ok(url)
}

fn fetch(url: &Url) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("a runtime could not be started: {error}"))?;
    runtime.block_on(ask(url)).map_err(|error| {
        let mut cause: &dyn Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        format!(
            "{url} does not answer: {cause}; is the gateway running, and is `gateway.admin` this \
             address?"
        )
    })?
}

async fn ask(url: &Url) -> Result<Result<String, String>, reqwest::Error> {
    let client = Client::builder().timeout(PATIENCE).no_proxy().build()?;
    let response = client.get(url.clone()).send().await?;
    let status = response.status();
    if !status.is_success() {
        return Ok(Err(format!(
            "{url} answers {status}; name the address of `gateway.admin`, not that of clients"
        )));
    }
    response.text().await.map(Ok)
}

/// The admin listener answers within milliseconds, even while the workers are busy.
const PATIENCE: Duration = Duration::from_secs(10);
