//! What every policy says of a setting it cannot work with.

use std::time::Duration;
use std::{error, fmt};

/// A setting that cannot work, with the edit that mends it. Returned at build time, so that no
/// call ever meets an impossible configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError {
    setting: &'static str,
    mend: &'static str,
}

impl ConfigError {
    /// An error about `setting` (a dotted path such as `breaker.cooldown`); `mend` completes the
    /// sentence "`setting` ...".
    pub const fn new(setting: &'static str, mend: &'static str) -> ConfigError {
        ConfigError { setting, mend }
    }

    /// The dotted path of the setting, for example `breaker.cooldown`.
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.setting, self.mend)
    }
}

impl error::Error for ConfigError {}

/// Refuses a setting that does not hold.
pub(crate) fn ensure(
    holds: bool,
    setting: &'static str,
    mend: &'static str,
) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::new(setting, mend))
    }
}

/// The longest time that any cooldown, window or lease may take. Longer is a wish for a manual
/// switch, and bounding it keeps every state on its way to another one.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_place_and_the_mend() {
        let error = ConfigError::new("breaker.cooldown", "must be at least 1 ms");
        assert_eq!(error.to_string(), "breaker.cooldown must be at least 1 ms");
        assert_eq!(error.setting(), "breaker.cooldown");
    }
}
