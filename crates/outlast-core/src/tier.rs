//! How much a piece of work matters.
//!
//! Three tiers, no more: under load people can agree on what must work, what should, and what may
//! wait, but not on the order of ten. The order is that of giving up: `Optional` goes first,
//! `Critical` last, so a comparison reads as "matters more than" from the left.

use std::str::FromStr;

use crate::config::ConfigError;

/// What a call, a route or a feature is worth when not everything can be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// What the service exists for; given up last.
    Critical,
    /// What is missed at once, but survived. The default.
    #[default]
    Important,
    /// What hardly anybody misses for a while; given up first.
    Optional,
}

impl Tier {
    /// All tiers, from the most to the least important.
    pub const ALL: [Tier; 3] = [Tier::Critical, Tier::Important, Tier::Optional];

    /// A stable snake_case name for files, headers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Critical => "critical",
            Tier::Important => "important",
            Tier::Optional => "optional",
        }
    }

    /// Its place in [`Tier::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl FromStr for Tier {
    type Err = ConfigError;

    /// Reads a [`Tier::name`].
    fn from_str(name: &str) -> Result<Tier, ConfigError> {
        Tier::ALL
            .into_iter()
            .find(|tier| tier.name() == name)
            .ok_or(ConfigError::new(
                "tier",
                "must be critical, important or optional",
            ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_indices_and_order_agree() {
        for (index, tier) in Tier::ALL.into_iter().enumerate() {
            assert_eq!(tier.index(), index);
            assert_eq!(tier.name().parse(), Ok(tier));
        }
        assert!(Tier::ALL.is_sorted());
        assert_eq!(Tier::default(), Tier::Important);
        assert!("Critical".parse::<Tier>().is_err());
    }
}
