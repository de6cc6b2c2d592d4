//! What is going to happen, by time.
//!
//! At one time, changes of the world come first, then what ends, then timers, then what begins; and
//! among those, whatever was planned first. So an answer that comes just as its timeout fires has
//! come, and two runs never differ by how a heap breaks a tie.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use outlast_core::time::Time;

/// What comes first at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Change,
    End,
    Timer,
    Begin,
}

/// What is planned.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    entries: BinaryHeap<Reverse<Entry<E>>>,
    planned: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Time,
    /// The class above, and below it how many were planned before.
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Entry<E>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Entry<E>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Entry<E>) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Agenda<E> {
        Agenda {
            entries: BinaryHeap::new(),
            planned: 0,
        }
    }

    pub(crate) fn plan(&mut self, at: Time, class: Class, event: E) {
        let order = (class as u64) << CLASS_BITS | self.planned;
        self.planned += 1;
        self.entries.push(Reverse(Entry { at, order, event }));
    }

    /// What happens next, and when.
    pub(crate) fn next(&mut self) -> Option<(Time, E)> {
        let Reverse(entry) = self.entries.pop()?;
        Some((entry.at, entry.event))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// More is not planned in the life of any machine.
const CLASS_BITS: u32 = 56;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_one_time_the_class_decides_and_then_who_came_first() {
        let mut agenda = Agenda::new();
        let (one, two) = (Time::from_millis(1), Time::from_millis(2));
        agenda.plan(two, Class::Change, "later");
        agenda.plan(one, Class::Begin, "begin");
        agenda.plan(one, Class::Timer, "first timer");
        agenda.plan(one, Class::Timer, "second timer");
        agenda.plan(one, Class::End, "end");
        agenda.plan(one, Class::Change, "change");
        let mut order = Vec::new();
        while let Some((_, event)) = agenda.next() {
            order.push(event);
        }
        let expected = [
            "change",
            "end",
            "first timer",
            "second timer",
            "begin",
            "later",
        ];
        assert_eq!(order, expected);
    }
}
