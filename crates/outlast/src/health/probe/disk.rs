//! Room on a file system.

use std::path::PathBuf;

use outlast_core::ratio::Ratio;

use super::Probing;
use super::blocking::Blocking;

/// Whether at least this share of the file system of `path` is free, of its blocks and of its
/// inodes, for a process without privileges.
pub fn disk(path: &str, free: Ratio) -> impl Fn() -> Probing + Send + Sync + use<> {
    let path = PathBuf::from(path);
    let file_system = Blocking::default();
    move || {
        let (path, file_system) = (path.clone(), file_system.clone());
        Box::pin(async move {
            let asked = path.clone();
            let found = file_system.ask(move || rustix::fs::statvfs(&asked)).await?;
            let place = path.display();
            let found = found.map_err(|error| format!("looking at {place}: {error}"))?;
            enough("space", (found.f_bavail, found.f_blocks), free)
                .and_then(|()| enough("inodes", (found.f_favail, found.f_files), free))
                .map_err(|error| format!("{place}: {error}"))
        })
    }
}

/// Whether `available` of `total` is enough. A file system without a number has no such limit.
fn enough(what: &str, (available, total): (u64, u64), free: Ratio) -> Result<(), String> {
    if total == 0 || free.reached_by(available, total) {
        return Ok(());
    }
    let share = available as f64 / total as f64 * 100.0;
    let wanted = free.as_f64() * 100.0;
    Err(format!(
        "{share:.1} % of the {what} is free, less than {wanted} %"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_compared_and_told() {
        let tenth = Ratio::percent(10);
        assert_eq!(enough("space", (10, 100), tenth), Ok(()));
        assert_eq!(enough("inodes", (0, 0), tenth), Ok(()));
        assert_eq!(
            enough("space", (99, 1000), tenth),
            Err("9.9 % of the space is free, less than 10 %".to_owned())
        );
    }

    #[tokio::test]
    async fn a_real_file_system_answers() {
        let here = env!("CARGO_MANIFEST_DIR");
        assert_eq!(disk(here, Ratio::ZERO)().await, Ok(()));
        let error = disk("/there/is/no/such/folder", Ratio::ZERO)()
            .await
            .unwrap_err();
        assert!(
            error.starts_with("looking at /there/is/no/such/folder: "),
            "{error}"
        );
        let full = disk(here, Ratio::ONE)().await.unwrap_err();
        assert!(full.contains("less than 100 %"), "{full}");
    }
}
