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
mod program;
mod secrets;
mod serve;
mod sign_on;
mod testing;
mod versions;
