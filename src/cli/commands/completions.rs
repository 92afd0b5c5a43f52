//! `soda completions` and `soda man`.

use crate::cli::output;
use clap::Command;
use clap_complete::Shell;
use soda::error::{Error, Result};
use soda::files;
use std::path::PathBuf;

/// Arguments of `soda completions`.
#[derive(clap::Args)]
pub struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `soda man`.
#[derive(clap::Args)]
pub struct ManArgs {
    /// The folder that the pages are written to.
    #[arg(value_name = "DIR")]
    out: PathBuf,
}

/// Prints the completion script of a shell for `program`.
pub fn run(args: &Args, mut program: Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "soda", &mut script);
    output::print(format_args!("{}", String::from_utf8_lossy(&script)));
    Ok(())
}

/// Writes a manual page for `program` and one for each of its commands.
pub fn man(args: &ManArgs, mut program: Command) -> Result<()> {
    files::create_dir(&args.out)?;
    // Makes the names of subcommands include those of their parents: soda-data-fetch.
    program.build();
    let mut waiting = vec![program.disable_help_subcommand(true)];
    let mut written = 0;
    while let Some(command) = waiting.pop() {
        let visible = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
        waiting.extend(command.get_subcommands().filter(visible).cloned());
        let page = clap_mangen::Man::new(command);
        let (path, mut text) = (args.out.join(page.get_filename()), Vec::new());
        page.render(&mut text).map_err(|e| Error::io("write", &path, &e))?;
        files::write_atomically(&path, &text)?;
        written += 1;
    }
    outln!("{written} manual pages in {}", args.out.display());
    Ok(())
}
