//! What the program prints about itself: SQL for roles, shell completions, manual pages.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Failure, commands::print};
use crate::ops::build_info;

/// psql's SQL, and the file that it includes.
const ROLES: &str = include_str!("../../sql/roles.sql");
const ADOPT: &str = include_str!("../../sql/adopt.sql");
const INCLUDE: &str = "\\ir adopt.sql\n";

/// The options of `completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsOptions {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The options of `man`.
#[derive(Args, Clone, Debug)]
pub struct ManOptions {
    /// Write datastream.1 and a page for each command into this directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Prints the SQL as one text that psql reads from a pipe.
pub(super) fn print_roles() {
    print(roles().as_bytes());
}

fn roles() -> String {
    ROLES.replace(INCLUDE, ADOPT)
}

pub(super) fn print_completions(options: &CompletionsOptions) {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "datastream", &mut script);
    print(&script);
}

pub(super) fn write_man(options: &ManOptions) -> Result<(), Failure> {
    // The revision is the program's. A page has the version only.
    let mut cli = Cli::command().version(build_info::VERSION);
    cli.build();
    let Some(folder) = &options.dir else {
        print(&page(&cli)?);
        return Ok(());
    };
    // `help` is no command of its own: `datastream help serve` prints the page of `serve`.
    let commands = cli.get_subcommands().filter(|command| command.get_name() != "help");
    for command in commands.chain([&cli]) {
        write_page(folder, command)?;
    }
    Ok(())
}

fn write_page(folder: &Path, command: &Command) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let file = folder.join(format!("{name}.1"));
    let unusable = || format!("cannot write {}. Pass a directory that exists.", file.display());
    File::create(&file)
        .and_then(|mut opened| opened.write_all(&page(command)?))
        .with_context(unusable)
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sql_of_the_roles_includes_no_file() {
        let includes = |line: &str| line.starts_with("\\ir");
        assert!(ROLES.lines().any(includes) && !roles().lines().any(includes));
    }
}
