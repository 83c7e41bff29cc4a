//! The parts of `weft dev`: what changed, what that means for the server, what the server says back.

pub mod check;
pub mod follow;
pub mod release;
pub mod view;
pub mod watch;
