//! The departments of one namespace as a tree: whether a change keeps it one.

use std::collections::HashMap;

use weft_model::DepartmentId;

/// Departments above one another at most.
pub const DEEPEST: usize = 8;
/// Departments in a namespace at most.
pub const MOST: usize = 1000;

/// Why a department cannot be somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    #[error("parentId: the namespace has no such department")]
    UnknownParent,
    #[error("a department cannot be below itself")]
    Cycle,
    #[error("departments are {DEEPEST} levels deep at most")]
    TooDeep,
    #[error("a namespace has {MOST} departments at most")]
    TooMany,
}

/// Who is below whom.
#[derive(Debug, Default)]
pub struct Tree {
    parents: HashMap<DepartmentId, Option<DepartmentId>>,
}

impl Tree {
    /// Puts a new department under a parent, or at the top.
    pub fn add(&mut self, id: DepartmentId, parent: Option<DepartmentId>) -> Result<(), Misplaced> {
        if self.parents.len() >= MOST {
            return Err(Misplaced::TooMany);
        }
        self.move_to(id, parent)
    }

    /// Puts a department, and with it all below it, under another parent.
    pub fn move_to(&mut self, id: DepartmentId, parent: Option<DepartmentId>) -> Result<(), Misplaced> {
        let above = match parent {
            None => 0,
            Some(parent) if parent == id => return Err(Misplaced::Cycle),
            Some(parent) if !self.parents.contains_key(&parent) => return Err(Misplaced::UnknownParent),
            Some(parent) => {
                let ancestors: Vec<_> = self.ancestors(parent).collect();
                if ancestors.contains(&id) {
                    return Err(Misplaced::Cycle);
                }
                ancestors.len() + 1
            }
        };
        if above + self.height(id) > DEEPEST {
            return Err(Misplaced::TooDeep);
        }
        self.parents.insert(id, parent);
        Ok(())
    }

    /// Those above a department, nearest first. Ends whatever the table holds.
    fn ancestors(&self, id: DepartmentId) -> impl Iterator<Item = DepartmentId> {
        std::iter::successors(self.parent(id), |above| self.parent(*above)).take(MOST)
    }

    fn parent(&self, id: DepartmentId) -> Option<DepartmentId> {
        self.parents.get(&id).copied().flatten()
    }

    /// Levels from a department down to the lowest below it, its own included.
    fn height(&self, id: DepartmentId) -> usize {
        let distance = |below: DepartmentId| self.ancestors(below).position(|above| above == id).map(|steps| steps + 2);
        self.parents.keys().filter_map(|below| distance(*below)).max().unwrap_or(1)
    }
}

impl FromIterator<(DepartmentId, Option<DepartmentId>)> for Tree {
    fn from_iter<I: IntoIterator<Item = (DepartmentId, Option<DepartmentId>)>>(departments: I) -> Self {
        Self { parents: departments.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> DepartmentId {
        Uuid::from_u128(number).into()
    }

    /// 1 above 2 above 3 …
    fn chain(length: u128) -> Tree {
        (1..=length).map(|number| (id(number), (number > 1).then(|| id(number - 1)))).collect()
    }

    #[test]
    fn a_department_is_not_put_below_itself_or_below_nothing() {
        let mut tree = chain(3);
        assert_eq!(tree.move_to(id(1), Some(id(1))), Err(Misplaced::Cycle));
        assert_eq!(tree.move_to(id(1), Some(id(3))), Err(Misplaced::Cycle));
        assert_eq!(tree.move_to(id(1), Some(id(9))), Err(Misplaced::UnknownParent));
        assert_eq!(tree.move_to(id(3), Some(id(1))), Ok(()));
        assert_eq!(tree.move_to(id(2), Some(id(3))), Ok(()));
    }

    #[test]
    fn the_tree_does_not_get_too_deep_by_adding_or_by_moving() {
        let mut tree = chain(8);
        assert_eq!(tree.add(id(100), Some(id(8))), Err(Misplaced::TooDeep));
        assert_eq!(tree.add(id(100), None), Ok(()));
        assert_eq!(tree.move_to(id(1), Some(id(100))), Err(Misplaced::TooDeep), "what is below comes along");
        assert_eq!(tree.move_to(id(2), Some(id(100))), Ok(()));
    }

    proptest! {
        /// Whatever is added and moved, there is no circle and nothing is too deep.
        #[test]
        fn a_tree_stays_a_tree(moves in prop::collection::vec((0_u128..12, prop::option::of(0_u128..12)), 0..60)) {
            let mut tree = Tree::default();
            for (department, parent) in moves {
                let _ = tree.move_to(id(department), parent.map(id));
                for department in tree.parents.keys() {
                    prop_assert!(tree.ancestors(*department).count() < DEEPEST);
                }
            }
        }
    }
}
