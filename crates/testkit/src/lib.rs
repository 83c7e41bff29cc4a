//! What tests of the product share: a database for each test, a server in the process, and vendors that no test machine can
//! reach, played in their true wire format.

pub mod api;
pub mod canary;
pub mod database;
mod eventually;
pub mod issuer;
pub mod npm;
pub mod oauth1;
mod peer;
pub mod proxy;
pub mod s3;
pub mod server;
pub mod sign_on;
pub mod slack;
pub mod vendor;

pub use api::{Answer, Api};
pub use eventually::eventually;
pub use server::TestServer;
