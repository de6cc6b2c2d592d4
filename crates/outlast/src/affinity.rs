//! The hash by which calls of one key meet the same endpoint.
//!
//! Instances that share no memory must agree on it, so it is a published one (FNV-1a, finished by a
//! mixer) and not that of the standard library, which may change with the compiler. It resists no
//! attacker; the bound on what one endpoint gets does.

use std::hash::{Hash, Hasher};

use outlast_core::rng::mix;

pub(crate) fn hash(key: impl Hash) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    key.hash(&mut hasher);
    hasher.finish()
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        let fold = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.0 = bytes.iter().fold(self.0, fold);
    }

    fn finish(&self) -> u64 {
        mix(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pinned: another value would send every key elsewhere while a fleet is updated.
    #[test]
    fn it_never_changes() {
        let mut empty = Fnv(0xcbf2_9ce4_8422_2325);
        empty.write(b"a");
        assert_eq!(empty.0, 0xaf63_dc4c_8601_ec8c, "FNV-1a of the letter a");
        assert_eq!(hash("user-7"), PINNED);
        assert_ne!(hash("user-7"), hash("user-8"));
    }

    /// By the formula, from the bytes of the text and the 0xff that ends it.
    const PINNED: u64 = 17_466_125_389_874_312_169;
}
