//! The store, without the password that may stand in its URL.

use super::{line, setting};
use crate::sections::STORE;
use crate::yaml::{Node, Value};

pub(super) fn explain(page: &mut String, store: &Node) {
    let is_database = store.entry("postgres").is_some();
    for key in STORE.keys {
        // What cannot be is not told as a default.
        if is_database == (key.name == "sqlite") {
            continue;
        }
        let given = store.entry(key.name).map(|entry| &entry.node);
        match given.map(|node| &node.value) {
            Some(Value::Scalar(text)) if key.name == "postgres" => {
                line(
                    page,
                    1,
                    format_args!("postgres: {}", without_password(text)),
                );
            }
            _ => setting(page, given, key, 1),
        }
    }
}

/// A URL or words such as `host=db`, with `***` for a password and what may be a part of it.
fn without_password(text: &str) -> String {
    let text = match text.find("password") {
        Some(at) => format!("{}password=***", &text[..at]),
        None => text.to_owned(),
    };
    let parts = text.split_once("://").and_then(|(scheme, rest)| {
        let (who, place) = rest.rsplit_once('@')?;
        let (user, _) = who.split_once(':')?;
        Some((scheme, user, place))
    });
    match parts {
        Some((scheme, user, place)) => format!("{scheme}://{user}:***@{place}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_password_is_shown() {
        let check = |text: &str, shown: &str| {
            assert_eq!(super::without_password(text), shown);
        };
        check("postgres://shop@db/shop", "postgres://shop@db/shop");
        check("postgres://shop:a@db/shop", "postgres://shop:***@db/shop");
        check("postgres://shop:a/@b@db/s", "postgres://shop:***@db/s");
        check("postgres://db/s?password=a", "postgres://db/s?password=***");
        check("host=db user=shop", "host=db user=shop");
        check("host=db password='a b' user=c", "host=db password=***");
        check("host=db password = a", "host=db password=***");
    }
}
