
pub mod slack;
