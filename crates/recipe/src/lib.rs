//! Declarative HTTP actions: from a recipe and an input to requests, and from the answers to one result.
//!
//! A recipe says how an action of a vendor's API is called: address, placement of the credential, body, pages, what the answer means.
//! [`Provider::compile`] reads the recipes of one integration and reports everything that is wrong with them at once;
//! [`execute`] carries one out. Nothing here opens a connection, waits or reads a clock: all of that is the [`Transport`]'s.
//! Nothing here knows tenants, permissions or routes.
//!
//! Expressions (`{{ input.channel }}`) are those of minijinja, with a bounded budget, without loops, assignments and access to
//! anything but the values that the place names. They end, whatever they say.
//!
//! Errors are [`Failure`]s in the platform's categories. Their text may quote the vendor, never the credential.

mod address;
mod answer;
mod auth;
mod body;
mod compile;
mod document;
mod execute;
mod expression;
mod failure;
pub mod oauth1;
pub mod offline;
mod page;
mod parameters;
mod proxy;
mod request;
mod retry;
mod rules;
mod template;
mod transport;

pub use address::Base;
pub use compile::{Action, Context, Elsewhere, Provider, Source};
pub use execute::{Call, execute};
pub use failure::{Category, Failure};
pub use proxy::{Forward, forward, passable};
pub use transport::{Interrupted, Outgoing, Transport};

/// Something that is wrong with a recipe: the JSONPath of the place, and what it is in words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub path: String,
    pub message: String,
}

impl Fault {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}
