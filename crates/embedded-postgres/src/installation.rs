//! Finds PostgreSQL's server programs and the user to run them as.

use std::{
    env, fs, io,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use super::Error;

/// The programs of a server. Debian's client package contains neither.
const PROGRAMS: [&str; 2] = ["initdb", "postgres"];
/// The folder into which `make demo` unpacks a server if none is installed.
const FETCHED: &str = ".datastream/postgresql/bin";
/// Debian's layout: one folder per major version below this one.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A folder with PostgreSQL's server programs.
#[derive(Clone, Debug)]
pub struct Installation {
    bin: PathBuf,
    version: String,
    account: Option<Account>,
}

/// The user that runs the server if this process is root: `initdb` and `postgres` refuse root.
#[derive(Clone, Debug)]
pub(super) struct Account {
    name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Installation {
    /// The first of: `$PG_BIN`, the working folder's `.datastream/postgresql/bin`, `pg_config
    /// --bindir`, the newest of `/usr/lib/postgresql/*/bin`, a folder of `PATH`.
    pub fn find() -> Result<Self, Error> {
        if let Some(bin) = env::var_os("PG_BIN").filter(|bin| !bin.is_empty()) {
            return Self::at(Path::new(&bin));
        }
        Self::candidates().iter().find_map(|bin| Self::at(bin).ok()).ok_or(Error::NotInstalled)
    }

    /// The installation for a data directory: of the major version that created it, else `find`.
    pub fn find_for(data_dir: &Path) -> Result<Self, Error> {
        let found = Self::find()?;
        let Ok(major) = fs::read_to_string(data_dir.join("PG_VERSION")) else { return Ok(found) };
        if found.major() == major.trim() {
            return Ok(found);
        }
        let others = Self::candidates();
        let mut others = others.iter().filter_map(|bin| Self::at(bin).ok());
        Ok(others.find(|other| other.major() == major.trim()).unwrap_or(found))
    }

    /// The server programs in this folder.
    pub fn at(bin: &Path) -> Result<Self, Error> {
        let bin = std::path::absolute(bin).unwrap_or_else(|_| bin.to_path_buf());
        if !has_server(&bin) {
            return Err(Error::NoServer(bin));
        }
        let version = version(&bin.join("postgres"))?;
        let account = if is_root() { Some(Account::find()?) } else { None };
        let found = Self { bin, version, account };
        found.check_reach(&found.bin.join("postgres"))?;
        Ok(found)
    }

    /// The version, such as `15.18`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The major version, such as `15`: it cannot open data directories of other major versions.
    pub fn major(&self) -> &str {
        self.version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default()
    }

    /// The folder with the programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Checks that the user that runs the server can access this path.
    pub(super) fn check_reach(&self, path: &Path) -> Result<(), Error> {
        let Some(account) = &self.account else { return Ok(()) };
        let Some(folder) = account.barred_at(path) else { return Ok(()) };
        Err(Error::Barred { account: account.name.clone(), path: path.to_path_buf(), folder })
    }

    pub(super) fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// One of the programs, run as the right user and without the variables of other servers.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir("/").env("LC_ALL", "C").env_remove("PGDATA").env_remove("PGPORT");
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    fn candidates() -> Vec<PathBuf> {
        let mut folders = vec![PathBuf::from(FETCHED)];
        folders.extend(pg_config());
        folders.extend(debian());
        folders.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
        folders.retain(|bin| has_server(bin));
        folders
    }
}

impl Account {
    /// `postgres`, which every server package creates, else `nobody`.
    fn find() -> Result<Self, Error> {
        let path = Path::new("/etc/passwd");
        let passwd = fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| passwd.lines().find_map(|line| Self::parse(line, name)))
            .ok_or(Error::NoAccount)
    }

    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let (found, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (found == name && uid != 0).then(|| Self { name: name.to_owned(), uid, gid })
    }

    /// The first parent folder of `path` that this user may not enter, such as `/root`.
    fn barred_at(&self, path: &Path) -> Option<PathBuf> {
        let ancestors: Vec<_> = path.ancestors().skip(1).collect();
        let closed =
            |folder: &&&Path| fs::metadata(folder).is_ok_and(|meta| !self.may_enter(&meta));
        ancestors.iter().rev().find(closed).map(|folder| folder.to_path_buf())
    }

    fn may_enter(&self, folder: &fs::Metadata) -> bool {
        let bit = match (folder.uid() == self.uid, folder.gid() == self.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        folder.mode() & bit != 0
    }
}

/// Whether this process runs as root: the owner of its entry in `/proc`.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn has_server(bin: &Path) -> bool {
    PROGRAMS.iter().all(|program| {
        fs::metadata(bin.join(program))
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

/// Debian's folders, newest major version first.
fn debian() -> Vec<PathBuf> {
    let names = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut majors: Vec<u32> =
        names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    majors.sort_unstable_by(|a, b| b.cmp(a));
    majors.iter().map(|major| Path::new(DEBIAN).join(major.to_string()).join("bin")).collect()
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` → `15.18`.
fn version(postgres: &Path) -> Result<String, Error> {
    let failed = |source| Error::io("run", postgres, source);
    let output = Command::new(postgres).arg("--version").output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    number.map(str::to_owned).ok_or_else(|| failed(io::Error::other("prints no version")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passwd_line_is_parsed_only_for_the_requested_name() {
        let line = "postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash";
        let account = Account::parse(line, "postgres").expect("an account");
        assert_eq!((account.uid, account.gid), (101, 104));
        assert!(Account::parse(line, "nobody").is_none());
        assert!(Account::parse("postgres:x:0:0::/:/bin/sh", "postgres").is_none());
    }

    #[test]
    fn the_error_names_the_folder_without_a_server() {
        let error = Installation::at(Path::new("/nowhere/bin")).expect_err("no server");
        assert!(error.to_string().contains("/nowhere/bin"), "{error}");
    }
}
