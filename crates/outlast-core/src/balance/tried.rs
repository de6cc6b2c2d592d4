//! Which endpoints a call has tried.

/// The endpoints that a call has tried: the latest eight, so that it needs no allocation. A call
/// that tries more meets the first ones again.
///
/// Of a number it keeps the lower half, so numbers may be any that are different among 2^32 in a
/// row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    latest: [u32; LATEST],
    count: u32,
}

/// How many it remembers: more than most calls try, and no more than is cheap to clear for each.
const LATEST: usize = 8;

impl Tried {
    /// Adds one.
    #[inline]
    pub fn insert(&mut self, endpoint: usize) {
        self.latest[self.count as usize % LATEST] = endpoint as u32;
        self.count += 1;
    }

    /// Whether it is one of them.
    #[inline]
    pub fn contains(&self, endpoint: usize) -> bool {
        let known = &self.latest[..(self.count as usize).min(LATEST)];
        known.contains(&(endpoint as u32))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_the_latest_eight() {
        let mut tried = Tried::default();
        assert!(tried.is_empty() && !tried.contains(0));
        for endpoint in 0..20 {
            tried.insert(endpoint);
            assert!(tried.contains(endpoint));
        }
        let known: Vec<_> = (0..1_024).filter(|&one| tried.contains(one)).collect();
        assert_eq!(known, (12..20).collect::<Vec<_>>());
    }
}
