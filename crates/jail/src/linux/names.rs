//! Addresses that stand for names, from 198.18.0.0/15, a range that is never routed. Pure; one book per child.
//!
//! A name keeps its address while it is in use. When the book is full, the name that was longest unused is forgotten; its
//! address is not given out again before all others were, so that an old address cannot quietly come to mean another host.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 1]);
const COUNT: u32 = 0x1_fffe;
const CAPACITY: usize = 4096;

/// How long an answer of the real DNS is believed.
const FRESH: Duration = Duration::from_secs(30);

/// Names and the addresses that stand for them.
#[derive(Debug)]
pub(super) struct Names {
    by_name: HashMap<Arc<str>, Ipv4Addr>,
    by_address: HashMap<Ipv4Addr, Entry>,
    capacity: usize,
    /// How many addresses were given out.
    given: u32,
    /// Rises with each use.
    tick: u64,
}

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    used: u64,
    found: Option<(Instant, Vec<IpAddr>)>,
}

impl Default for Names {
    fn default() -> Self {
        Self { by_name: HashMap::new(), by_address: HashMap::new(), capacity: CAPACITY, given: 0, tick: 0 }
    }
}

impl Names {
    /// The address that stands for a name.
    pub(super) fn address(&mut self, name: &str) -> Ipv4Addr {
        self.tick += 1;
        if let Some(&address) = self.by_name.get(name) {
            self.touch(address);
            return address;
        }
        if self.by_name.len() >= self.capacity {
            self.forget_oldest();
        }
        let address = self.free_address();
        let name: Arc<str> = name.into();
        self.by_name.insert(Arc::clone(&name), address);
        self.by_address.insert(address, Entry { name, used: self.tick, found: None });
        address
    }

    /// The name that an address stands for.
    pub(super) fn name(&mut self, address: Ipv4Addr) -> Option<Arc<str>> {
        self.tick += 1;
        self.touch(address);
        self.by_address.get(&address).map(|entry| Arc::clone(&entry.name))
    }

    /// Whether an address is one of those that stand for names.
    pub(super) fn covers(address: IpAddr) -> Option<Ipv4Addr> {
        match address {
            IpAddr::V4(address) if matches!(address.octets(), [198, 18 | 19, ..]) => Some(address),
            _ => None,
        }
    }

    /// The real addresses of a name, if they were found lately.
    pub(super) fn found(&self, name: &str) -> Option<Vec<IpAddr>> {
        let entry = self.by_address.get(self.by_name.get(name)?)?;
        let (since, addresses) = entry.found.as_ref()?;
        (since.elapsed() < FRESH).then(|| addresses.clone())
    }

    /// Notes the real addresses of a name that is in the book.
    pub(super) fn note(&mut self, name: &str, addresses: Vec<IpAddr>) {
        let entry = self.by_name.get(name).and_then(|address| self.by_address.get_mut(address));
        if let Some(entry) = entry {
            entry.found = Some((Instant::now(), addresses));
        }
    }

    fn touch(&mut self, address: Ipv4Addr) {
        if let Some(entry) = self.by_address.get_mut(&address) {
            entry.used = self.tick;
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.by_address.iter().min_by_key(|(_, entry)| entry.used).map(|(address, _)| *address);
        if let Some(entry) = oldest.and_then(|address| self.by_address.remove(&address)) {
            self.by_name.remove(&entry.name);
        }
    }

    fn free_address(&mut self) -> Ipv4Addr {
        loop {
            let address = Ipv4Addr::from(FIRST + self.given % COUNT);
            self.given = self.given.wrapping_add(1);
            if !self.by_address.contains_key(&address) {
                return address;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_address() {
        let mut names = Names::default();
        let first = names.address("a.test");
        let second = names.address("b.test");
        assert_ne!(first, second);
        assert_eq!(names.address("a.test"), first);
        assert_eq!(names.name(second).as_deref(), Some("b.test"));
        assert_eq!(Names::covers(first.into()), Some(first));
    }

    #[test]
    fn a_full_book_forgets_the_name_that_was_longest_unused_and_does_not_reuse_its_address() {
        let mut names = Names { capacity: 2, ..Names::default() };
        let (first, second) = (names.address("a.test"), names.address("b.test"));
        names.name(first);
        let third = names.address("c.test");
        assert_eq!(names.name(second), None);
        assert_eq!(names.name(first).as_deref(), Some("a.test"));
        assert!(third != first && third != second);
        assert_eq!(names.by_name.len(), 2);
    }

    #[test]
    fn addresses_run_through_the_whole_range_before_they_come_again() {
        let mut names = Names { capacity: 2, ..Names::default() };
        let first = names.address("first.test");
        for number in 1..COUNT {
            assert_ne!(names.address(&format!("{number}.test")), first);
        }
        assert_eq!(names.address("again.test"), first);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_the_real_dns_is_believed_for_a_while() {
        let mut names = Names::default();
        names.address("a.test");
        names.note("a.test", vec![IpAddr::from([1, 1, 1, 1])]);
        assert_eq!(names.found("a.test"), Some(vec![IpAddr::from([1, 1, 1, 1])]));
        tokio::time::advance(FRESH).await;
        assert_eq!(names.found("a.test"), None);
    }
}
