//! The worker host against real Bun processes that run the real prelude.

mod calls;
mod confinement;
mod libraries;
mod lifecycle;
mod limits;
mod rig;
mod safety;
