//! `weft completions`: the shell's completion script on stdout.

use clap::Args;
use clap_complete::Shell;

use crate::error::Result;
use crate::output::print_line;

#[derive(Args)]
pub struct Arguments {
    /// Shell to write the script for
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::command(), "weft", &mut script);
    print_line(String::from_utf8_lossy(&script).trim_end())
}
