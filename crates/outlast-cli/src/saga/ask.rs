//! Requests to a gateway's admin listener.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, Url};
use serde_json::Value;
use tokio::runtime::Runtime;

/// Why it was not done.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Whether the gateway said so.
    pub(crate) answered: bool,
    pub(crate) why: String,
}

impl Refused {
    pub(crate) fn unable(why: String) -> Refused {
        Refused {
            answered: false,
            why,
        }
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    url: Url,
    token: Option<String>,
    client: Client,
    runtime: Runtime,
}

impl Gateway {
    pub(crate) fn new(at: &str, token: Option<&Path>) -> Result<Gateway, Refused> {
        let url: Url = at.parse().map_err(|error| {
            Refused::unable(format!(
                "{at} is no URL: {error}; such as http://127.0.0.1:9900"
            ))
        })?;
        if url.scheme() != "http" || url.cannot_be_a_base() {
            let why = format!("{at}: the admin listener speaks no TLS; write http://");
            return Err(Refused::unable(why));
        }
        let token = token.map(super::read_file).transpose()?;
        let token = token.map(|text| text.lines().next().unwrap_or_default().trim().to_owned());
        let client = Client::builder()
            .no_proxy()
            .connect_timeout(CONNECTING)
            .build();
        let client = client.map_err(|error| Refused::unable(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime
            .map_err(|error| Refused::unable(format!("a runtime could not be started: {error}")))?;
        Ok(Gateway {
            url,
            token,
            client,
            runtime,
        })
    }

    pub(crate) fn get(
        &self,
        path: &[&str],
        query: &[(&str, Option<&str>)],
    ) -> Result<Value, Refused> {
        self.ask(self.request(Method::GET, path, query).timeout(PATIENCE))
    }

    pub(crate) fn post(
        &self,
        path: &[&str],
        query: &[(&str, Option<&str>)],
        body: &Value,
    ) -> Result<Value, Refused> {
        let request = self.request(Method::POST, path, query).timeout(PATIENCE);
        self.ask(request.body(body.to_string()))
    }

    /// Tells every event of a stream to `tell`.
    pub(crate) fn events(
        &self,
        path: &[&str],
        mut tell: impl FnMut(Value) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let request = self.request(Method::GET, path, &[]);
        self.runtime.block_on(async {
            let mut response = self.answer(request).await?;
            let mut text = Vec::new();
            loop {
                let chunk = response.chunk().await.map_err(|error| self.lost(&error))?;
                let Some(chunk) = chunk else {
                    return Ok(());
                };
                text.extend_from_slice(&chunk);
                while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                    let event: Vec<u8> = text.drain(..end + 2).collect();
                    let event = String::from_utf8_lossy(&event);
                    let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                    if let Some(data) = data.and_then(|data| serde_json::from_str(data).ok()) {
                        tell(data)?;
                    }
                }
            }
        })
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, Option<&str>)],
    ) -> RequestBuilder {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let request = self.client.request(method, url);
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn ask(&self, request: RequestBuilder) -> Result<Value, Refused> {
        self.runtime.block_on(async {
            let response = self.answer(request).await?;
            let text = response.text().await.map_err(|error| self.lost(&error))?;
            serde_json::from_str(&text).map_err(|error| {
                Refused::unable(format!(
                    "{} does not answer as a gateway: {error}; name the address of `gateway.admin`",
                    self.url
                ))
            })
        })
    }

    /// An answer that is no refusal.
    async fn answer(&self, request: RequestBuilder) -> Result<Response, Refused> {
        let response = request.send().await.map_err(|error| self.lost(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let why = problem["detail"].as_str().map(str::to_owned);
        Err(Refused {
            answered: true,
            why: why.unwrap_or_else(|| format!("the gateway answers {status}")),
        })
    }

    fn lost(&self, error: &reqwest::Error) -> Refused {
        let mut cause: &dyn Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Refused::unable(format!(
            "{} does not answer: {cause}; is the gateway running, and is `gateway.admin` this address?",
            self.url
        ))
    }
}

const CONNECTING: Duration = Duration::from_secs(3);
/// Longer than the longest `--wait`.
const PATIENCE: Duration = Duration::from_secs(70);
