//! How many of the places that a tenant or an app has on all nodes together are this node's. Pure.
//!
//! Nodes on one database share a limit evenly, so none has to ask before it takes a job. Each works by a *roll* of all nodes and says by
//! which. While not all say the same, a node takes no more than it may by each roll that it has worked by since they did; so whatever the
//! others work by, together they stay within the limit.

use std::{collections::HashMap, sync::Arc};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::runs::Sharing;

/// The nodes that there are, this one among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roll(Vec<Uuid>);

/// A node as the others see it.
#[derive(Debug, Clone)]
pub struct Peer {
    pub id: Uuid,
    /// The roll that it says it works by.
    pub roll: Option<String>,
}

impl Roll {
    pub fn of(peers: &[Peer]) -> Self {
        let mut nodes: Vec<Uuid> = peers.iter().map(|peer| peer.id).collect();
        nodes.sort_unstable();
        Self(nodes)
    }

    /// What a node says of the roll that it works by.
    pub fn name(&self) -> String {
        let mut digest = Sha256::new();
        self.0.iter().for_each(|node| digest.update(node.as_bytes()));
        hex::encode(digest.finalize()).chars().take(32).collect()
    }

    /// The places of a node; what cannot be divided goes to other nodes for other names.
    pub fn share(&self, node: Uuid, limit: usize, name: &str) -> usize {
        let (count, Some(rank)) = (self.0.len(), self.0.iter().position(|known| *known == node)) else { return 0 };
        let turned = (rank + offset(name, count)) % count;
        limit / count + usize::from(turned < limit % count)
    }
}

/// Whether what nodes share, besides places, is this node's alone, as all of them see it: one that says nothing yet does nothing yet.
pub fn sharing(peers: &[Peer], node: Uuid) -> Sharing {
    let says_alone = |peer: &Peer| peer.roll.as_deref() == Some(&Roll(vec![peer.id]).name());
    let (own, others): (Vec<_>, Vec<_>) = peers.iter().partition(|peer| peer.id == node);
    if others.iter().any(|peer| says_alone(peer)) {
        return Sharing::Unsettled;
    }
    match (others.len(), own.first()) {
        (0, Some(own)) if says_alone(own) => Sharing::Alone,
        (0, _) => Sharing::Unsettled,
        (others, _) => Sharing::Among(u32::try_from(others + 1).unwrap_or(u32::MAX)),
    }
}

/// Where in the roll a name begins. The same on every node.
fn offset(name: &str, count: usize) -> usize {
    let sum = name.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    sum % count
}

/// The rolls that count for a node.
#[derive(Debug)]
pub struct Shares {
    node: Uuid,
    /// Those of since all nodes said the same; the last one is the one that the node works by.
    rolls: Vec<Roll>,
    /// What others have at work beyond their shares, by tenant and lane; absent once that is nothing.
    excess: Option<HashMap<Arc<str>, usize>>,
}

/// What is at work on a node.
#[derive(Debug, Clone)]
pub struct AtWork {
    pub lane: String,
    pub node: Uuid,
    pub count: usize,
}

impl Shares {
    /// Those of a node that knows of no others yet, and may take nothing.
    pub fn none(node: Uuid) -> Self {
        Self { node, rolls: vec![Roll(Vec::new())], excess: Some(HashMap::new()) }
    }

    /// Takes in who is there. The roll to work by from now on, if this node does not say so yet.
    pub fn see(&mut self, peers: &[Peer]) -> Option<Roll> {
        let roll = Roll::of(peers);
        let name = roll.name();
        let agrees = |peer: &Peer| peer.roll.as_deref() == Some(&name);
        let all_agree = peers.iter().all(|peer| peer.id == self.node || agrees(peer));
        if self.rolls.last() != Some(&roll) {
            self.rolls.push(roll.clone());
            self.excess.get_or_insert_default();
        }
        if all_agree && self.rolls.len() > 1 {
            self.rolls = vec![roll.clone()];
        }
        let is_said = peers.iter().any(|peer| peer.id == self.node && agrees(peer));
        (!is_said).then_some(roll)
    }

    /// Whether it matters what the others have at work.
    pub fn wants_counts(&self) -> bool {
        self.rolls.len() == 1 && self.excess.is_some()
    }

    /// Whether not everything is as it is to stay.
    pub fn is_settling(&self) -> bool {
        self.excess.is_some()
    }

    /// Takes in what the others have at work, of which limits are known by name.
    pub fn count(&mut self, at_work: &[AtWork], (per_tenant, per_app): (usize, usize)) {
        let Some(roll) = self.rolls.last() else { return };
        let mut held: HashMap<(Arc<str>, Uuid), (usize, usize)> = HashMap::new();
        for AtWork { lane, node, count } in
            at_work.iter().filter(|at_work| at_work.node != self.node && roll.0.contains(&at_work.node))
        {
            let tenant = lane.split_once('/').map_or(lane.as_str(), |(tenant, _)| tenant);
            held.entry((lane.as_str().into(), *node)).or_insert((0, per_app)).0 += count;
            held.entry((tenant.into(), *node)).or_insert((0, per_tenant)).0 += count;
        }
        let mut excess: HashMap<Arc<str>, usize> = HashMap::new();
        for ((name, node), (count, limit)) in held {
            let beyond = count.saturating_sub(roll.share(node, limit, &name));
            if beyond > 0 {
                *excess.entry(name).or_default() += beyond;
            }
        }
        self.excess = (!excess.is_empty()).then_some(excess);
    }

    /// How many places of a tenant or a lane are this node's.
    pub fn of(&self, limit: usize, name: &str) -> usize {
        let least = self.rolls.iter().map(|roll| roll.share(self.node, limit, name)).min().unwrap_or(0);
        let excess = self.excess.as_ref().and_then(|excess| excess.get(name)).copied().unwrap_or_default();
        least.saturating_sub(excess)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn peers(nodes: &[(u128, Option<&Roll>)]) -> Vec<Peer> {
        nodes.iter().map(|(id, roll)| Peer { id: node(*id), roll: roll.map(Roll::name) }).collect()
    }

    fn roll(nodes: &[u128]) -> Roll {
        Roll(nodes.iter().copied().map(node).collect())
    }

    /// Shares of a node that all others agree with.
    fn settled(own: u128, nodes: &[u128]) -> Shares {
        let (roll, mut shares) = (roll(nodes), Shares::none(node(own)));
        let known: Vec<_> = nodes.iter().map(|id| (*id, Some(&roll))).collect();
        shares.see(&peers(&known));
        shares.count(&[], (6, 4));
        shares
    }

    #[test]
    fn a_limit_is_divided_among_all_nodes_and_nothing_of_it_is_lost() {
        let roll = roll(&[1, 2, 3]);
        for limit in [0, 1, 2, 3, 16, 17] {
            for name in ["a", "acme/crm", "default"] {
                let shares: Vec<_> = [1, 2, 3].map(|id| roll.share(node(id), limit, name)).into();
                assert_eq!(shares.iter().sum::<usize>(), limit, "{name}");
                assert!(shares.iter().all(|share| share.abs_diff(limit / 3) <= 1), "{shares:?}");
            }
        }
        assert_eq!(roll.share(node(9), 16, "a"), 0, "whoever is not on the roll takes nothing");
    }

    #[test]
    fn a_node_alone_has_every_place_at_once() {
        let mut shares = Shares::none(node(1));
        assert_eq!(shares.of(16, "a"), 0);
        assert_eq!(shares.see(&peers(&[(1, None)])), Some(roll(&[1])));
        shares.count(&[], (6, 4));
        assert_eq!((shares.of(16, "a"), shares.is_settling()), (16, false));
        assert_eq!(shares.see(&peers(&[(1, Some(&roll(&[1])))])), None, "nothing is new");
    }

    #[test]
    fn a_node_that_comes_takes_nothing_before_all_others_have_made_room() {
        let (old, new) = (roll(&[1]), roll(&[1, 2]));
        let (mut first, mut second) = (settled(1, &[1]), Shares::none(node(2)));
        second.see(&peers(&[(1, Some(&old)), (2, None)]));
        assert_eq!(second.of(16, "a"), 0);
        first.see(&peers(&[(1, Some(&old)), (2, Some(&new))]));
        assert_eq!(first.of(16, "a"), 8, "it makes room at once");
        second.see(&peers(&[(1, Some(&new)), (2, Some(&new))]));
        assert_eq!((second.wants_counts(), second.of(16, "a")), (true, 8));
        // What the first one has at work stays at work.
        let busy = AtWork { lane: "a/x".to_owned(), node: node(1), count: 4 };
        second.count(&[busy], (6, 4));
        assert_eq!((second.of(4, "a/x"), second.of(4, "a/y")), (0, 2));
        assert_eq!(second.of(6, "a"), 2, "of the tenant's six");
        second.count(&[], (6, 4));
        assert_eq!((second.of(4, "a/x"), second.is_settling()), (2, false));
    }

    #[test]
    fn nobody_is_alone_before_all_could_know_it() {
        let (one, two, both) = (roll(&[1]), roll(&[2]), roll(&[1, 2]));
        let first = |nodes: &[(u128, Option<&Roll>)]| sharing(&peers(nodes), node(1));
        assert_eq!(first(&[(1, None)]), Sharing::Unsettled, "another one may come before it is said");
        assert_eq!(first(&[(1, Some(&one))]), Sharing::Alone);
        assert_eq!(first(&[(1, Some(&one)), (2, Some(&two))]), Sharing::Unsettled, "the other one thinks that it is alone");
        // Whoever says nothing has taken nothing; whoever names others takes from what is shared.
        assert_eq!(first(&[(1, Some(&one)), (2, None)]), Sharing::Among(2));
        assert_eq!(first(&[(1, Some(&both)), (2, Some(&both))]), Sharing::Among(2));
    }

    #[test]
    fn a_node_that_goes_leaves_its_places_to_those_who_all_know_it() {
        let (old, new) = (roll(&[1, 2, 3]), roll(&[1, 2]));
        let mut first = settled(1, &[1, 2, 3]);
        first.see(&peers(&[(1, Some(&old)), (2, Some(&old))]));
        let before = first.of(17, "a");
        assert!(before <= 6, "the other one may still think otherwise: {before}");
        first.see(&peers(&[(1, Some(&new)), (2, Some(&new))]));
        first.count(&[], (6, 4));
        assert!(first.of(17, "a") >= 8);
    }

    #[test]
    fn whatever_rolls_nodes_work_by_together_they_stay_within_the_limit() {
        let rolls = [roll(&[1, 2]), roll(&[1, 2, 3]), roll(&[2, 3]), roll(&[2])];
        for name in ["a", "b", "default/crm"] {
            for limit in 1..20 {
                // All agreed on the first; each has seen some of those that followed.
                for seen in 0..rolls.len().pow(3) {
                    let together: usize = (0..3_u32)
                        .map(|place| {
                            let until = seen / rolls.len().pow(place) % rolls.len();
                            let own = node(u128::from(place) + 1);
                            rolls[..=until].iter().map(|roll| roll.share(own, limit, name)).min().unwrap_or(0)
                        })
                        .sum();
                    assert!(together <= limit, "{name} {limit} {seen}: {together}");
                }
            }
        }
    }
}
