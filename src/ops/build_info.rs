//! The build of this program: version, git revision, features and target, as `build.rs` found them.

/// The version of the package.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The git revision, or `unknown` for a build outside a repository.
pub(crate) const REVISION: &str = env!("BUILD_REVISION");
/// The cargo features, joined by `+`, or `none`.
pub(crate) const FEATURES: &str = env!("BUILD_FEATURES");
/// All of it, as `--version` prints it after the program's name.
pub const LINE: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (revision ",
    env!("BUILD_REVISION"),
    ", features ",
    env!("BUILD_FEATURES"),
    ", ",
    env!("BUILD_TARGET"),
    ")"
);
