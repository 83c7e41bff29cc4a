//! The `weft` binary: everything lives in the library, so that tests and the reference generator can reach it.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    weft_cli::main().await
}
