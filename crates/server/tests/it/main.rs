//! The product over HTTP, on a real PostgreSQL and with real workers. A module per slice, named after its routes.

mod actions;
mod apps;
mod auth;
mod canary;
mod confinement;
mod deploy;
mod fixtures;
mod idempotency;
mod integrations;
mod limits;
mod nodes;
mod roles;
mod runs;
mod secrets;
mod slack;
mod startup;
mod system;
mod users;
mod webhooks;
mod workers;
