//! Runs `datastream doctor`, parses its report and applies its remedies.

use serde_json::Value;

use super::{
    TestDatabase,
    binary::{Output, datastream, program},
    cluster::installation,
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub status: String,
    pub says: String,
    pub remedy: String,
}

/// Runs the program with these arguments on a database.
pub async fn run(url: &str, words: &str, more: &[&str]) -> Output {
    let words: Vec<&str> = words.split_whitespace().chain(more.iter().copied()).collect();
    datastream(&words).env("DATABASE_URL", url).run().await
}

/// The findings of one check. Asserts that exit status and `ok` match the failures, and that every
/// warning and failure has a remedy.
pub async fn findings(url: &str, check: &str, more: &[&str]) -> Vec<Finding> {
    let output = run(url, "doctor --json", more).await;
    let report: Value = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", output.stdout, output.stderr));
    let checks = report["checks"].as_array().expect("checks");
    let failed = checks.iter().any(|line| line["status"] == "failed");
    assert_eq!(output.code, Some(i32::from(failed)), "{}", output.stdout);
    assert_eq!(report["ok"], !failed);
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let of_it = checks.iter().filter(|line| line["name"] == check).map(|line| Finding {
        status: text(line, "status"),
        says: text(line, "says"),
        remedy: text(line, "remedy"),
    });
    let found: Vec<_> = of_it.collect();
    let advised =
        |line: &Finding| !["warning", "failed"].contains(&&*line.status) || !line.remedy.is_empty();
    assert!(found.iter().all(advised), "no remedy: {found:?}");
    found
}

/// The finding with this status and text; fails if there is none.
#[track_caller]
pub fn told<'a>(found: &'a [Finding], status: &str, says: &str) -> &'a Finding {
    let told = found.iter().find(|line| line.status == status && line.says.contains(says));
    told.unwrap_or_else(|| panic!("{status} {says} in {found:?}"))
}

#[track_caller]
pub fn assert_well(found: &[Finding], check: &str) {
    assert!(
        !found.is_empty() && found.iter().all(|line| line.status == "ok"),
        "{check}: {found:?}"
    );
}

impl Finding {
    /// Runs each command of the remedy verbatim, in a shell or as SQL, as the administrator.
    pub async fn follow(&self, database: &TestDatabase) {
        let commands: Vec<&str> = self.remedy.lines().skip(1).collect();
        assert!(!commands.is_empty(), "no command in {self:?}");
        for command in commands {
            if command.starts_with("datastream ") {
                in_a_shell(database, command, "/").await;
            } else if command.starts_with("psql ") {
                in_a_shell(database, command, ROOT).await;
            } else {
                database.run(command).await;
            }
        }
    }
}

async fn in_a_shell(database: &TestDatabase, command: &str, folder: &str) {
    let own = super::binary::path().parent().expect("a folder").to_owned();
    let given = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{}:{given}", own.display(), installation().bin().display());
    let shell = program("sh", &["-c", command]).current_dir(folder).env("PATH", path);
    let output = shell.env("DATABASE_URL", database.url()).run().await;
    assert_eq!(output.code, Some(0), "{command}: {}{}", output.stdout, output.stderr);
}
