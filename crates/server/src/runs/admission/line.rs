//! Who waits for a budget, and whose turn it is: each asker's next one in turn, however many of them one asker has. Pure.

use std::collections::{HashMap, VecDeque};

use weft_model::{AppId, UserId};

/// On whose account somebody waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Asker {
    App(AppId),
    Person(UserId),
}

impl Asker {
    /// Whoever calls, unless an app does so for them.
    pub fn of(app: Option<&AppId>, person: UserId) -> Self {
        app.map_or(Self::Person(person), |app| Self::App(app.clone()))
    }
}

/// Tickets that wait, by asker.
#[derive(Debug)]
pub struct Line<T> {
    turns: VecDeque<Asker>,
    waiting: HashMap<Asker, VecDeque<T>>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), waiting: HashMap::new() }
    }
}

impl<T> Line<T> {
    pub fn enter(&mut self, asker: Asker, ticket: T) {
        let tickets = self.waiting.entry(asker.clone()).or_default();
        if tickets.is_empty() {
            self.turns.push_back(asker);
        }
        tickets.push_back(ticket);
    }

    /// The ticket whose turn it is.
    pub fn next(&mut self) -> Option<T> {
        let asker = self.turns.pop_front()?;
        let tickets = self.waiting.get_mut(&asker)?;
        let ticket = tickets.pop_front();
        if tickets.is_empty() {
            self.waiting.remove(&asker);
        } else {
            self.turns.push_back(asker);
        }
        ticket
    }

    /// Lets go whoever is not to wait any more.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.waiting.retain(|_, tickets| {
            tickets.retain(&keep);
            !tickets.is_empty()
        });
        self.turns.retain(|asker| self.waiting.contains_key(asker));
    }

    /// How many have their turn before another one of this asker.
    pub fn ahead(&self, asker: &Asker) -> usize {
        let own = self.waiting.get(asker).map_or(0, VecDeque::len);
        let others = self.waiting.iter().filter(|(other, _)| *other != asker);
        own + others.map(|(_, tickets)| tickets.len().min(own + 1)).sum::<usize>()
    }

    pub fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> Asker {
        Asker::App(name.parse().expect("a name"))
    }

    #[test]
    fn a_flood_of_one_asker_lets_the_others_have_every_other_turn() {
        let mut line = Line::default();
        for number in 0..5 {
            line.enter(app("flood"), ("flood", number));
        }
        assert_eq!((line.ahead(&app("quiet")), line.ahead(&app("flood"))), (1, 5));
        line.enter(app("quiet"), ("quiet", 0));
        line.enter(app("quiet"), ("quiet", 1));
        assert_eq!(line.ahead(&app("flood")), 7);
        let order: Vec<_> = std::iter::from_fn(|| line.next()).collect();
        let expected = [("flood", 0), ("quiet", 0), ("flood", 1), ("quiet", 1), ("flood", 2), ("flood", 3), ("flood", 4)];
        assert_eq!(order, expected);
        assert!(line.is_empty());
    }
}
