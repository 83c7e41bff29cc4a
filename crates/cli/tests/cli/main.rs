//! The built `weft` binary against a fake server: what people see, what reaches the server, what stays on disk.

mod add;
mod archive;
mod audit;
mod call;
mod canary;
mod catalog;
mod connections;
mod data;
mod deploy;
mod dev;
mod fake;
mod hooks;
mod identity;
mod init;
mod jobs;
mod listing;
mod login;
mod machine;
mod secrets;
mod sign_on;
mod testing;
mod versions;
