//! Things that come and go, each with a reference that is never mistaken for a later one's.

/// Refers to one thing for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ref {
    place: u32,
    life: u32,
}

impl Ref {
    /// For the trace: equal in equal runs.
    pub(crate) fn bits(self) -> u64 {
        u64::from(self.life) << 32 | u64::from(self.place)
    }
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    life: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> Ref {
        if let Some(place) = self.free.pop() {
            let there = &mut self.places[place as usize];
            there.value = Some(value);
            return Ref {
                place,
                life: there.life,
            };
        }
        let place = u32::try_from(self.places.len()).expect("the world is bounded before");
        self.places.push(Place {
            life: 0,
            value: Some(value),
        });
        Ref { place, life: 0 }
    }

    pub(crate) fn get(&self, at: Ref) -> Option<&T> {
        let place = &self.places[at.place as usize];
        place.value.as_ref().filter(|_| place.life == at.life)
    }

    pub(crate) fn get_mut(&mut self, at: Ref) -> Option<&mut T> {
        let place = &mut self.places[at.place as usize];
        place.value.as_mut().filter(|_| place.life == at.life)
    }

    pub(crate) fn remove(&mut self, at: Ref) -> Option<T> {
        let place = &mut self.places[at.place as usize];
        if place.life != at.life {
            return None;
        }
        let value = place.value.take()?;
        place.life = place.life.wrapping_add(1);
        self.free.push(at.place);
        Some(value)
    }

    /// All that are so, in the order of their places.
    pub(crate) fn find_all(&self, is_so: impl Fn(&T) -> bool) -> Vec<Ref> {
        let places = self.places.iter().zip(0..);
        let found = places.filter(|(place, _)| place.value.as_ref().is_some_and(&is_so));
        let refer = |(place, at): (&Place<T>, u32)| Ref {
            place: at,
            life: place.life,
        };
        found.map(refer).collect()
    }

    /// How many are there.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_dies_with_what_it_refers_to() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        assert_eq!((slab.get(first), slab.len()), (Some(&"first"), 1));
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut "second"));
        assert_ne!(first.bits(), second.bits());
        assert_eq!(slab.len(), 1);
    }
}
