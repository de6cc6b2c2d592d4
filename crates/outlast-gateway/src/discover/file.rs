//! Endpoints from a file that somebody writes.
//!
//! It is looked at once a second, by its content: notifications of the system do not come from
//! network file systems, nor when a mounted ConfigMap is swapped.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::pause;
use crate::table::Upstream;

/// Follows the file for as long as it is polled.
pub(super) async fn follow(upstream: Arc<Upstream>, path: PathBuf) {
    let mut seen = None;
    loop {
        pause(LOOK).await;
        let (owner, path, before) = (Arc::clone(&upstream), path.clone(), seen.clone());
        // A disk may take its time, and so do certificates that have to be read.
        let look = move || match read(&path) {
            // What could not be used may be usable later, without another text.
            Ok(text) if before.as_ref() != Some(&text) => {
                take(&owner, &path, &text).then_some(text)
            }
            Ok(text) => Some(text),
            Err(error) => {
                owner.looked(Some(format!("{}: {error}", path.display())));
                None
            }
        };
        // One that panicked has said so; the next look begins anew.
        seen = tokio::task::spawn_blocking(look).await.unwrap_or_default();
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(io::Error::other("it has more than 1 MiB"));
    }
    Ok(text)
}

/// Whether it could be used.
fn take(upstream: &Upstream, path: &Path, text: &str) -> bool {
    let name = path.display().to_string();
    let told = outlast_config::endpoints(&name, text).map_err(|problems| problems.to_string());
    let taken = told.and_then(|endpoints| upstream.take(&endpoints));
    let is_taken = taken.is_ok();
    upstream.looked(taken.err());
    is_taken
}

const LOOK: Duration = Duration::from_secs(1);
const MOST_BYTES: u64 = 1024 * 1024;
