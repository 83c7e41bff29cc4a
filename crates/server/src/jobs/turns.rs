//! Whose turn it is: how many jobs of which stream to take next. Pure.
//!
//! A free place goes to the tenant that has the fewest jobs at work, within it to the app that has the fewest, and among equals
//! to whoever waited longest. Within an app the higher priority comes first.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use weft_queue::Stream;

use super::shares::{AtWork, Shares};

/// How many jobs may be at work: on one node, and of a tenant and of an app on all nodes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub node: usize,
    pub tenant: usize,
    pub app: usize,
}

/// What is at work, and what is known to be ready.
#[derive(Debug)]
pub struct Turns {
    limits: Limits,
    /// What of the limits is this node's.
    pub shares: Shares,
    tenants: HashMap<Arc<str>, Tenant>,
    at_work: usize,
    /// Counts the places that were given, to tell who waited longest.
    given: u64,
}

#[derive(Debug, Default)]
struct Tenant {
    lanes: HashMap<Arc<str>, Lane>,
    at_work: usize,
    /// When it got its last place.
    last: u64,
}

#[derive(Debug, Default)]
struct Lane {
    ready: BTreeSet<i16>,
    at_work: usize,
    last: u64,
}

impl Turns {
    pub fn new(limits: Limits, shares: Shares) -> Self {
        Self { limits, shares, tenants: HashMap::new(), at_work: 0, given: 0 }
    }

    /// Notes what the other nodes have at work.
    pub fn count(&mut self, at_work: &[AtWork]) {
        self.shares.count(at_work, (self.limits.tenant, self.limits.app));
    }

    /// Notes that a stream may have something.
    pub fn ready(&mut self, stream: &Stream) {
        self.lane(&stream.lane).ready.insert(stream.priority);
    }

    /// Notes that a job of a lane is at work.
    pub fn began(&mut self, lane: &Arc<str>) {
        self.lane(lane).at_work += 1;
        self.tenant(lane).at_work += 1;
        self.at_work += 1;
    }

    /// Notes that it is no longer.
    pub fn ended(&mut self, lane: &Arc<str>) {
        let of = self.lane(lane);
        of.at_work = of.at_work.saturating_sub(1);
        let tenant = self.tenant(lane);
        tenant.at_work = tenant.at_work.saturating_sub(1);
        self.at_work = self.at_work.saturating_sub(1);
    }

    fn forget_idle(&mut self) {
        for tenant in self.tenants.values_mut() {
            tenant.lanes.retain(|_, lane| lane.at_work > 0 || !lane.ready.is_empty());
        }
        self.tenants.retain(|_, tenant| !tenant.lanes.is_empty());
    }

    /// Gives the free places away: how many jobs to take of which streams. What is taken from is not ready any more until
    /// somebody says so again.
    pub fn take(&mut self) -> Vec<(Stream, usize)> {
        self.forget_idle();
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        let mut free = self.limits.node.saturating_sub(self.at_work);
        while free > 0 {
            let Some(lane) = self.next(&places) else { break };
            *places.entry(lane).or_default() += 1;
            free -= 1;
        }
        let mut taken = Vec::with_capacity(places.len());
        for (lane, count) in places {
            if let Some(priority) = self.lane(&lane).ready.pop_last() {
                taken.push((Stream { lane, priority }, count));
            }
        }
        taken
    }

    /// The lane that gets the next place, beside those that are given already.
    fn next(&mut self, places: &HashMap<Arc<str>, usize>) -> Option<Arc<str>> {
        let Limits { tenant: per_tenant, app: per_app, .. } = self.limits;
        let shares = &self.shares;
        let granted = |lane: &Arc<str>| places.get(lane).copied().unwrap_or_default();
        let open =
            |(key, lane): &(&Arc<str>, &Lane)| !lane.ready.is_empty() && lane.at_work + granted(key) < shares.of(per_app, key);
        let load = |tenant: &Tenant| tenant.at_work + tenant.lanes.keys().map(granted).sum::<usize>();
        let (name, _) = self
            .tenants
            .iter()
            .filter(|(name, tenant)| load(tenant) < shares.of(per_tenant, name) && tenant.lanes.iter().any(|lane| open(&lane)))
            .min_by_key(|(_, tenant)| (load(tenant), tenant.last))?;
        let name = Arc::clone(name);
        self.given += 1;
        let tenant = self.tenants.get_mut(&name)?;
        tenant.last = self.given;
        let (key, _) = tenant.lanes.iter().filter(open).min_by_key(|(key, lane)| (lane.at_work + granted(key), lane.last))?;
        let key = Arc::clone(key);
        if let Some(lane) = tenant.lanes.get_mut(&key) {
            lane.last = self.given;
        }
        Some(key)
    }

    fn tenant(&mut self, lane: &Arc<str>) -> &mut Tenant {
        let name = lane.split_once('/').map_or(&**lane, |(tenant, _)| tenant);
        self.tenants.entry(name.into()).or_default()
    }

    fn lane(&mut self, lane: &Arc<str>) -> &mut Lane {
        self.tenant(lane).lanes.entry(Arc::clone(lane)).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::shares::Peer, *};

    const LIMITS: Limits = Limits { node: 8, tenant: 6, app: 4 };

    /// Turns of a node that is alone.
    fn alone(limits: Limits) -> Turns {
        let node = uuid::Uuid::nil();
        let mut turns = Turns::new(limits, Shares::none(node));
        turns.shares.see(&[Peer { id: node, roll: None }]);
        turns.count(&[]);
        turns
    }

    fn stream(lane: &str, priority: i16) -> Stream {
        Stream::new(lane, priority)
    }

    fn taken(turns: &mut Turns) -> Vec<(String, i16, usize)> {
        let mut taken: Vec<_> = turns
            .take()
            .into_iter()
            .map(|(stream, count)| {
                (0..count).for_each(|_| turns.began(&stream.lane));
                (stream.lane.to_string(), stream.priority, count)
            })
            .collect();
        taken.sort();
        taken
    }

    #[test]
    fn free_places_are_shared_between_tenants_and_then_between_apps() {
        let mut turns = alone(LIMITS);
        for lane in ["a/x", "a/y", "b/x"] {
            turns.ready(&stream(lane, 0));
        }
        assert_eq!(taken(&mut turns), [("a/x".into(), 0, 2), ("a/y".into(), 0, 2), ("b/x".into(), 0, 4)]);
        assert_eq!(taken(&mut turns), [], "no place is left");
    }

    #[test]
    fn a_flood_fills_its_own_places_only_and_whoever_comes_next_gets_the_rest() {
        let mut turns = alone(LIMITS);
        turns.ready(&stream("flood/x", 0));
        assert_eq!(taken(&mut turns), [("flood/x".into(), 0, 4)], "the limit of an app");
        for lane in ["flood/x", "flood/y"] {
            turns.ready(&stream(lane, 0));
        }
        assert_eq!(taken(&mut turns), [("flood/y".into(), 0, 2)], "the limit of a tenant");
        turns.ready(&stream("quiet/x", 0));
        assert_eq!(taken(&mut turns), [("quiet/x".into(), 0, 2)], "the limit of the node");
    }

    #[test]
    fn a_place_that_becomes_free_goes_to_whoever_has_the_fewest_at_work() {
        let mut turns = alone(Limits { node: 4, tenant: 4, app: 4 });
        turns.ready(&stream("flood/x", 0));
        assert_eq!(taken(&mut turns), [("flood/x".into(), 0, 4)]);
        for lane in ["flood/x", "quiet/x"] {
            turns.ready(&stream(lane, 0));
        }
        turns.ended(&"flood/x".into());
        assert_eq!(taken(&mut turns), [("quiet/x".into(), 0, 1)]);
    }

    #[test]
    fn a_higher_priority_comes_first_and_what_is_dry_is_not_asked_again() {
        let mut turns = alone(LIMITS);
        for priority in [1, 9, 5] {
            turns.ready(&stream("a/x", priority));
        }
        let order: Vec<_> = (0..4).map(|_| turns.take()).map(|taken| taken.first().map(|(stream, _)| stream.priority)).collect();
        assert_eq!(order, [Some(9), Some(5), Some(1), None]);
    }

    #[test]
    fn nothing_is_kept_of_lanes_that_are_done() {
        let mut turns = alone(LIMITS);
        turns.ready(&stream("a/x", 0));
        taken(&mut turns);
        (0..4).for_each(|_| turns.ended(&"a/x".into()));
        assert_eq!(taken(&mut turns), []);
        assert!(turns.tenants.is_empty());
    }
}
