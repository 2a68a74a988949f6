//! Builds again when a migration is added, because `sqlx::migrate!` reads the folder at compile
//! time. Names the build for `--version`: git revision, target and features.

use std::{env, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=sqlx.toml");
    println!("cargo:rerun-if-env-changed=DATASTREAM_BUILD_REVISION");
    println!("cargo:rustc-env=BUILD_REVISION={}", revision());
    println!("cargo:rustc-env=BUILD_FEATURES={}", features());
    println!("cargo:rustc-env=BUILD_TARGET={}", variable("TARGET"));
}

/// The variable, which a build without `.git` sets (a container image, a source archive), or else
/// the commit that is checked out.
fn revision() -> String {
    let given = variable("DATASTREAM_BUILD_REVISION");
    if !given.is_empty() {
        return given;
    }
    // Only a release must name its exact commit: a debug build would compile again after each one.
    if variable("PROFILE") == "release" {
        watch_head();
    }
    git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

/// Builds again when another commit is checked out.
fn watch_head() {
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The features of this build, in lower case. Cargo sets a variable for each.
fn features() -> String {
    let names = env::vars()
        .filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_")?.to_lowercase()));
    let mut names: Vec<_> = names.filter(|name| name != "default").collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join("+") }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
