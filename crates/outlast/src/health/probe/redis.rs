//! Redis, and whatever speaks like it.

use std::sync::Arc;

use ::http::Uri;
use outlast_core::config::ConfigError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::Probing;
use super::target::Target;

/// Whether a Redis answers `PING`: `redis://HOST:PORT`, with `redis://:PASSWORD@HOST` or
/// `redis://USER:PASSWORD@HOST` after logging in, with `/NUMBER` in that database. Port 6379 if none
/// is given; user and password percent-encoded. For TLS, give a closure with your client.
///
/// # Errors
/// If `url` has another form.
pub fn redis(url: &str) -> Result<impl Fn() -> Probing + Send + Sync + use<>, ConfigError> {
    let plan = Arc::new(Plan::of(url).ok_or(ConfigError::new(
        "health.redis",
        "must be like redis://:password@host:6379/0",
    ))?);
    Ok(move || -> Probing {
        let plan = Arc::clone(&plan);
        Box::pin(async move {
            let mut stream = plan.target.connect().await?;
            for (command, expected) in &plan.exchanges {
                let sent = stream.write_all(command).await;
                sent.map_err(|error| format!("sending the request: {error}"))?;
                judge(&line(&mut stream).await?, expected)?;
            }
            Ok(())
        })
    })
}

struct Plan {
    target: Target,
    /// What is sent, and what must come back.
    exchanges: Vec<(Vec<u8>, &'static str)>,
}

impl Plan {
    fn of(url: &str) -> Option<Plan> {
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority()?;
        if uri.scheme_str() != Some("redis") || uri.query().is_some() {
            return None;
        }
        let (login, place) = match authority.as_str().rsplit_once('@') {
            None => (None, authority.clone()),
            Some((login, place)) => (Some(login.split_once(':')?), place.parse().ok()?),
        };
        let mut exchanges = Vec::new();
        if let Some((user, password)) = login {
            let (user, password) = (decoded(user)?, decoded(password)?);
            let words: &[&[u8]] = match &user[..] {
                [] => &[b"AUTH", &password],
                user => &[b"AUTH", user, &password],
            };
            exchanges.push((command(words), "+OK"));
        }
        let database = uri.path().trim_start_matches('/');
        if !database.is_empty() {
            let number: u32 = database.parse().ok()?;
            exchanges.push((command(&[b"SELECT", number.to_string().as_bytes()]), "+OK"));
        }
        exchanges.push((b"PING\r\n".to_vec(), "+PONG"));
        Some(Plan {
            target: Target::of(&place, Some(6379))?,
            exchanges,
        })
    }
}

/// A command whose words may hold any bytes: an array of bulk strings.
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        command.extend_from_slice(word);
        command.extend_from_slice(b"\r\n");
    }
    command
}

/// The next line of the reply, without its end.
async fn line(stream: &mut (impl AsyncRead + Unpin)) -> Result<String, String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST {
            return Err("its answer has no end of line".to_owned());
        }
        let mut bytes = [0; 128];
        let count = stream.read(&mut bytes).await;
        let count = count.map_err(|error| format!("reading the answer: {error}"))?;
        if count == 0 {
            return Err("it closed the connection before it answered".to_owned());
        }
        line.extend_from_slice(&bytes[..count]);
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).map_err(|_| "its answer is not text".to_owned())
}

fn judge(answer: &str, expected: &str) -> Result<(), String> {
    match answer.strip_prefix('-') {
        _ if answer == expected => Ok(()),
        Some(error) => Err(format!("it answered {error}")),
        None => Err(format!("it answered {answer:?}, which is not {expected}")),
    }
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            other => other,
        });
    }
    Some(decoded)
}

/// Longer than any answer to these commands.
const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn exchanges(url: &str) -> Option<String> {
        let plan = Plan::of(url)?;
        let sent: Vec<u8> = plan
            .exchanges
            .iter()
            .flat_map(|(sent, _)| sent.clone())
            .collect();
        String::from_utf8(sent).ok()
    }

    #[test]
    fn urls_become_commands() {
        assert_eq!(exchanges("redis://a").unwrap(), "PING\r\n");
        assert_eq!(
            exchanges("redis://:p%40ss%20w@a:7").unwrap(),
            "*2\r\n$4\r\nAUTH\r\n$6\r\np@ss w\r\nPING\r\n"
        );
        assert_eq!(
            exchanges("redis://me:secret@a/3").unwrap(),
            "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$6\r\nsecret\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\nPING\r\n"
        );
        for wrong in [
            "a:6379",
            "rediss://a",
            "redis://password@a",
            "redis://:%4@a",
            "redis://:%zz@a",
            "redis://a/x",
            "redis://a/?db=1",
            "redis://a:0",
        ] {
            assert_eq!(exchanges(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn only_the_expected_line_is_a_yes() {
        let mut reply = &b"+PONG\r\n"[..];
        assert_eq!(line(&mut reply).await.unwrap(), "+PONG");
        for wrong in [&b""[..], b"+PONG", b"\xff\r\n", &[b'x'; 5000]] {
            let mut reply = wrong;
            assert!(line(&mut reply).await.is_err(), "{wrong:?}");
        }
        assert_eq!(judge("+PONG", "+PONG"), Ok(()));
        let error = judge("-NOAUTH Authentication required.", "+PONG").unwrap_err();
        assert_eq!(error, "it answered NOAUTH Authentication required.");
        assert!(judge("+OK", "+PONG").is_err());
        assert!(judge("HTTP/1.1 400 Bad Request", "+PONG").is_err());
    }
}
