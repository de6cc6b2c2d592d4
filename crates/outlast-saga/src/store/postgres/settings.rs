//! Connection strings: what they say of TLS, and the rest.

use tokio_postgres::config::TargetSessionAttrs;

use super::link::LONGEST_CONNECT;
use super::tls::{Asked, Tls};
use super::{Config, StoreError};

/// How a database is reached.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) client: tokio_postgres::Config,
    pub(super) tls: Tls,
}

impl Settings {
    /// Reads a connection string.
    pub(super) fn read(text: &str, config: &Config) -> Result<Settings, StoreError> {
        // What is wrong with the string itself is not told: it may show a part of a password.
        let wrong = || {
            let message = "the settings must be like postgres://user:password@host:5432/database";
            StoreError::Failed(message.to_owned())
        };
        let mut asked = Asked::default();
        let rest = without_tls(text, &mut asked).ok_or_else(wrong)?;
        let mut client: tokio_postgres::Config = rest.parse().map_err(|_| wrong())?;
        let (mode, tls) = asked.made().map_err(StoreError::Failed)?;
        client.ssl_mode(mode);
        let has_password = client.get_password().is_some();
        let default = config.default_password.as_ref().filter(|_| !has_password);
        if let Some(password) = config.password.as_ref().or(default) {
            client.password(password);
        }
        client.connect_timeout(LONGEST_CONNECT);
        // Of several hosts, the one to write to.
        client.target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Settings { client, tls })
    }
}

/// A connection string without what it says of TLS; `None` if it is none.
fn without_tls(text: &str, asked: &mut Asked) -> Option<String> {
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return words(text, asked);
    }
    let Some((place, query)) = text.split_once('?') else {
        return Some(text.to_owned());
    };
    let mut rest = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !asked.take(key, &decoded(value)?) {
            rest.push(pair);
        }
    }
    if rest.is_empty() {
        return Some(place.to_owned());
    }
    Some(format!("{place}?{}", rest.join("&")))
}

/// As `host=db user=shop`: values that have blanks or quotes in them stand in quotes.
fn words(text: &str, asked: &mut Asked) -> Option<String> {
    let mut rest = String::new();
    let mut left = text.trim_start();
    while !left.is_empty() {
        let (key, after) = left.split_once('=')?;
        let (value, next) = value(after.trim_start())?;
        if !asked.take(key.trim(), &value) {
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            rest.push_str(&format!("{} = '{value}' ", key.trim()));
        }
        left = next.trim_start();
    }
    Some(rest)
}

/// The value with which a text begins, and what comes after it.
fn value(text: &str) -> Option<(String, &str)> {
    let is_quoted = text.starts_with('\'');
    let text = text.strip_prefix('\'').unwrap_or(text);
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.push(letters.next()?.1),
            '\'' if is_quoted => return Some((value, &text[at + 1..])),
            letter if letter.is_whitespace() && !is_quoted => return Some((value, &text[at..])),
            letter => value.push(letter),
        }
    }
    // A quote that is not closed is none.
    (!is_quoted).then_some((value, ""))
}

/// Without percent signs.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut left = text.as_bytes();
    while let [first, rest @ ..] = left {
        left = rest;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(left.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        left = &left[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_tls_is_taken_out() {
        let check = |text: &str, rest: Option<&str>, taken: &[(&str, &str)]| {
            let (mut asked, mut expected) = (Asked::default(), Asked::default());
            let found = without_tls(text, &mut asked);
            assert_eq!(found.as_deref(), rest, "{text}");
            for (key, value) in taken {
                assert!(expected.take(key, value));
            }
            assert_eq!(asked, expected, "{text}");
        };
        check("postgres://a@b/c", Some("postgres://a@b/c"), &[]);
        check(
            "postgres://a:p%40@b/c?sslmode=verify-full&application_name=x&sslrootcert=%2Fa%20b.pem",
            Some("postgres://a:p%40@b/c?application_name=x"),
            &[("sslmode", "verify-full"), ("sslrootcert", "/a b.pem")],
        );
        check(
            "postgresql://b?sslcert=c&sslkey=k",
            Some("postgresql://b"),
            &[("sslcert", "c"), ("sslkey", "k")],
        );
        check(
            "host = b  sslmode=require password='it''s' ",
            None,
            &[("sslmode", "require")],
        );
        check(
            r"host=b sslrootcert='a \'b' password = 'it\'s \\' user=c\ d",
            Some(r"host = 'b' password = 'it\'s \\' user = 'c d' "),
            &[("sslrootcert", "a 'b")],
        );
        check("host=b password='open", None, &[]);
        check("no words", None, &[]);
        check("postgres://b?sslmode=%zz", None, &[]);
        check("postgres://b?sslmode=%4", None, &[]);
    }

    #[test]
    fn what_cannot_be_is_told() {
        let check = |text: &str, part: &str| {
            let failed = Settings::read(text, &Config::default()).err().unwrap();
            assert!(failed.to_string().contains(part), "{text}: {failed}");
        };
        check("postgres://b?sslmode=allow", "write disable, prefer");
        check("postgres://b?sslcert=a", "give both");
        check(
            "postgres://b?sslrootcert=system&sslmode=require",
            "sslmode=verify-full only",
        );
        check(
            "postgres://b?sslmode=verify-ca&sslrootcert=/none.pem",
            "sslrootcert=/none.pem",
        );
        check("postgres://b:5x/", "must be like");
    }

    #[test]
    fn a_password_that_is_given_beside_it_is_used() {
        let password = |text: &str, config: Config| {
            let settings = Settings::read(text, &config).unwrap();
            settings.client.get_password().map(<[u8]>::to_vec)
        };
        let config = Config::default;
        let (url, bare) = ("postgres://a:own@b/c", "postgres://a@b/c");
        assert_eq!(password(url, config()), Some(b"own".to_vec()));
        assert_eq!(password(bare, config()), None);
        let default = || config().default_password("default");
        assert_eq!(password(url, default()), Some(b"own".to_vec()));
        assert_eq!(password(bare, default()), Some(b"default".to_vec()));
        let given = || default().password("given");
        assert_eq!(password(url, given()), Some(b"given".to_vec()));
    }
}
