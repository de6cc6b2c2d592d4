//! Which endpoints a call has tried.

/// The endpoints that a call has tried: the latest sixteen, so that it needs no allocation. A call
/// that tries more meets the first ones again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    latest: [u16; LATEST],
    count: usize,
}

const LATEST: usize = 16;

impl Tried {
    /// Adds one.
    pub fn insert(&mut self, endpoint: usize) {
        let endpoint = u16::try_from(endpoint).expect("there are at most 1,024 endpoints");
        self.latest[self.count % LATEST] = endpoint;
        self.count += 1;
    }

    /// Whether it is one of them.
    pub fn contains(&self, endpoint: usize) -> bool {
        let known = &self.latest[..self.count.min(LATEST)];
        known.iter().any(|&one| usize::from(one) == endpoint)
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
    fn it_remembers_the_latest_sixteen() {
        let mut tried = Tried::default();
        assert!(tried.is_empty() && !tried.contains(0));
        for endpoint in 0..20 {
            tried.insert(endpoint);
            assert!(tried.contains(endpoint));
        }
        let known: Vec<_> = (0..1_024).filter(|&one| tried.contains(one)).collect();
        assert_eq!(known, (4..20).collect::<Vec<_>>());
    }
}
