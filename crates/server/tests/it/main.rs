//! The product over HTTP, on a real PostgreSQL and with real workers. A module per slice, named after its routes.

mod actions;
mod apps;
mod auth;
mod canary;
mod confinement;
mod deploy;
mod fixtures;
mod full_disk;
mod idempotency;
mod integrations;
mod limits;
mod nodes;
mod oauth;
mod packages;
mod roles;
mod runs;
mod secrets;
mod service_accounts;
mod slack;
mod startup;
mod system;
mod users;
mod versions;
mod webhooks;
mod workers;
