//! Whom an attempt spares, as long as others are left.
//!
//! A call that tries again goes where it has not been: what failed there may be the endpoint. From
//! the third attempt on it goes where nobody stands close to those it has tried, to another zone or
//! priority: what failed two of them may be what they have in common. So a call with three attempts
//! survives a zone that has just died, before anybody has noticed, and one endpoint that fails sends
//! nothing across zones.

use super::attempt::Kind;
use crate::balance::Tried;
use crate::upstream::Members;

/// Whom an attempt spares. One that its breaker would not let pass is spared in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spare {
    /// Those it has tried, all that stand where these do, and those that asked for a pause.
    Places,
    /// Those it has tried, and those that asked for a pause.
    Tried,
    /// Those where it has an attempt running, and those that asked for a pause.
    Live,
    /// Those that asked for a pause.
    Paused,
    /// Nobody.
    Nobody,
}

impl Spare {
    /// What to wish for first, then instead. `tries` have been made.
    #[inline]
    pub(super) fn wishes(kind: Kind, tries: u32, members: &Members) -> &'static [Spare] {
        match kind {
            Kind::First => &[Spare::Paused, Spare::Nobody],
            Kind::Retry | Kind::Failover if tries >= 2 && members.has_places => {
                &[Spare::Places, Spare::Tried, Spare::Paused]
            }
            Kind::Retry | Kind::Failover => &[Spare::Tried, Spare::Paused],
            // Behind the only address there may be many machines.
            Kind::Hedge if members.endpoints.len() == 1 => &[Spare::Paused],
            Kind::Hedge => &[Spare::Tried, Spare::Live],
        }
    }
}

/// The places that a call has tried.
pub(super) struct Place {
    tried: [u16; MOST],
    count: usize,
}

/// No fewer than the tries that are remembered.
const MOST: usize = 8;

impl Place {
    pub(super) const NONE: Place = Place {
        tried: [0; MOST],
        count: 0,
    };

    #[cold]
    pub(super) fn tried(members: &Members, tried: &Tried) -> Place {
        let mut places = Place::NONE;
        let known = members.endpoints.iter().zip(&members.places);
        let known = known.filter(|(endpoint, _)| tried.contains(endpoint.number));
        for (_, &place) in known {
            if places.count < MOST && !places.contains(place) {
                places.tried[places.count] = place;
                places.count += 1;
            }
        }
        places
    }

    pub(super) fn contains(&self, place: u16) -> bool {
        self.tried[..self.count].contains(&place)
    }
}
