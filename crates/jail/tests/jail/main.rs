//! Real programs in a real jail: what they can reach, what they cannot, and what their keeper hears of it.
#![cfg(target_os = "linux")]

mod files;
mod kernel;
mod limits;
mod network;
mod refusals;
mod rig;
