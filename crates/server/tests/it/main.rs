//! The product over HTTP, on a real PostgreSQL and with real workers. A module per slice, named after its routes.

mod auth;
mod roles;
mod users;
mod apps;
mod deploy;
mod fixtures;
mod actions;
mod integrations;
mod workers;
mod secrets;
mod startup;
mod system;
mod idempotency;
mod nodes;
mod runs;
mod slack;
mod webhooks;
