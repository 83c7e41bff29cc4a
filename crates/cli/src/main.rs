//! The `weft` binary: everything lives in the library, so that tests and the reference generator can reach it.

/// Every call makes and frees some hundred small values on two threads or more; the system's allocator spends much more time on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::io::Result<std::process::ExitCode> {
    Ok(weft_cli::runtime()?.block_on(weft_cli::main()))
}
