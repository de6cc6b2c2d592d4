//! How one endpoint is spoken to: the path, the header fields and the statuses that it has instead
//! of those that the client knows.
//!
//! Everything that can be prepared is prepared when a plan is taken over, secrets among it: an
//! attempt clones values, and reads no file. An endpoint without a dialect costs a look at empty
//! lists.

use http::StatusCode;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use outlast_config::plan::{self, Meaning, Rewrite, Setting, StatusOutcome};

use crate::admin::read_secret;

/// What differs at one endpoint.
#[derive(Debug)]
pub(crate) struct Dialect {
    plan: plan::Dialect,
    set: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
    /// The host that it is asked for, if it is not the client's.
    host: Option<HeaderValue>,
}

impl Dialect {
    /// Reads the secrets in it; an error names where one is kept, never what it is.
    pub(crate) fn new(plan: &plan::Dialect) -> Result<Dialect, String> {
        let mut set = Vec::new();
        let mut host = None;
        for (name, setting) in &plan.set {
            let value = value(setting).map_err(|error| format!("header {name}: {error}"))?;
            let name = header_name(name)?;
            if name == HOST {
                host = Some(value);
            } else {
                set.push((name, value));
            }
        }
        let remove = plan.remove.iter().map(|name| header_name(name));
        Ok(Dialect {
            set,
            remove: remove.collect::<Result<_, _>>()?,
            host,
            plan: plan.clone(),
        })
    }

    /// The path that it knows instead of `asked`; `None` for the same.
    pub(crate) fn rewritten(&self, asked: &PathAndQuery) -> Option<PathAndQuery> {
        let (start, rest) = match self.plan.rewrite.as_ref()? {
            Rewrite::Whole(whole) => (whole, ""),
            Rewrite::Start { from, to } => {
                let rest = asked.path().strip_prefix(from.as_str())?;
                let is_whole = rest.is_empty() || rest.starts_with('/');
                (to, Some(rest).filter(|_| is_whole)?)
            }
        };
        let root = if start.is_empty() && rest.is_empty() {
            "/"
        } else {
            ""
        };
        let (mark, query) = asked.query().map_or(("", ""), |query| ("?", query));
        let path = format!("{start}{rest}{root}{mark}{query}");
        Some(PathAndQuery::try_from(path).expect("a path before the rest of a path is a path"))
    }

    /// The host that it is asked for.
    pub(crate) fn host<'a>(&'a self, clients: &'a HeaderValue) -> &'a HeaderValue {
        self.host.as_ref().unwrap_or(clients)
    }

    /// Whether a request has other fields after it was made for this endpoint.
    pub(crate) fn changes_fields(&self) -> bool {
        self.host.is_some() || !self.set.is_empty() || !self.remove.is_empty()
    }

    /// Changes the fields of a request.
    pub(crate) fn apply(&self, fields: &mut HeaderMap) {
        for name in &self.remove {
            fields.remove(name);
        }
        if self.host.is_some() {
            // What is asked for is said once, by whoever makes the request.
            fields.remove(HOST);
        }
        for (name, value) in &self.set {
            fields.insert(name, value.clone());
        }
    }

    /// What it says that a status means.
    pub(crate) fn means(&self, status: StatusCode) -> Option<Meaning> {
        meaning_of(&self.plan.outcomes, status)
    }

    /// The status that a client sees.
    pub(crate) fn seen(&self, status: StatusCode) -> StatusCode {
        let code = status.as_u16();
        let mut changes = self.plan.statuses.iter();
        let change = changes.find(|change| (change.from..=change.to).contains(&code));
        change
            .and_then(|change| StatusCode::from_u16(change.seen).ok())
            .unwrap_or(status)
    }
}

/// The first rule that holds for a status.
pub(crate) fn meaning_of(rules: &[StatusOutcome], status: StatusCode) -> Option<Meaning> {
    let code = status.as_u16();
    let mut rules = rules.iter();
    let rule = rules.find(|rule| (rule.from..=rule.to).contains(&code));
    rule.map(|rule| rule.means)
}

fn value(setting: &Setting) -> Result<HeaderValue, String> {
    let (text, is_secret) = match setting {
        Setting::Plain(text) => (text.clone(), false),
        Setting::Kept(secret) => (read_secret(secret)?, true),
    };
    // The error of the conversion would not show the value either; this one says what to mend.
    let mut value =
        HeaderValue::from_str(&text).map_err(|_| "what is kept there is no header value")?;
    value.set_sensitive(is_secret);
    Ok(value)
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewriting(rewrite: Rewrite) -> Dialect {
        Dialect::new(&plan::Dialect {
            rewrite: Some(rewrite),
            ..plan::Dialect::default()
        })
        .unwrap()
    }

    #[test]
    fn a_path_is_replaced_whole_or_by_its_start() {
        let whole = || Rewrite::Whole("/v1/charges".to_owned());
        let start = |from: &str, to: &str| Rewrite::Start {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        for (rewrite, asked, expected) in [
            (whole(), "/pay/7?a=b", Some("/v1/charges?a=b")),
            (start("/pay", "/v1/charges"), "/pay", Some("/v1/charges")),
            (start("/pay", "/v1"), "/pay/7?a=b", Some("/v1/7?a=b")),
            (start("/pay", "/v1"), "/payment", None),
            (start("/pay", "/v1"), "/other", None),
            (start("/pay", ""), "/pay?a", Some("/?a")),
            (start("/pay", ""), "/pay/7", Some("/7")),
            (start("", "/v1"), "/pay", Some("/v1/pay")),
        ] {
            let asked = PathAndQuery::from_static(asked);
            let found = rewriting(rewrite.clone()).rewritten(&asked);
            let found = found.as_ref().map(PathAndQuery::as_str);
            assert_eq!(found, expected, "{rewrite:?} {asked}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "s3cret\n").unwrap();
        let secret = plan::Secret::File(path);
        let dialect = Dialect::new(&plan::Dialect {
            set: vec![("x-api".to_owned(), Setting::Kept(secret))],
            ..plan::Dialect::default()
        })
        .unwrap();
        let mut fields = HeaderMap::new();
        dialect.apply(&mut fields);
        assert_eq!(fields["x-api"], "s3cret");
        assert!(!format!("{dialect:?} {fields:?}").contains("s3cret"));
    }
}
