//! The house rules that no other tool checks: layers, sizes, borders, words, documents.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod tidy_documents;
mod tidy_prose;
mod tidy_tests;
mod tidy_words;

use std::{
    fs,
    path::{Path, PathBuf},
};

use testkit::binary::{VARIABLES, datastream};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The folders of `src` from the bottom up, each with what it is for: a folder imports from those
/// above it in this list. The maps in `src/lib.rs` and `docs/architecture.md` repeat the first ten.
const LAYERS: [(&str, &str); 12] = [
    ("ops", "metrics, logs, shutdown, backoff, limits."),
    (
        "stream",
        "rounds, topics, frames; the hub with its ring buffers; replays; subscriptions; the bus.",
    ),
    ("postgres", "connection target, queries, migrations, attach, checks, maintenance."),
    ("config", "options as typed values."),
    ("source", "PostgreSQL to rounds: listener, catch-up, poll, cursor; read-only mode."),
    ("access", "who may listen: keys, tokens, permissions, and how long each lasts."),
    (
        "transport",
        "writes rounds to sockets: shards for WebSocket and SSE, sessions for WebTransport.",
    ),
    ("http", "routes, refusals, the accept loop, the live page."),
    ("app", "binds, wires, runs and stops a server."),
    ("cli", "the commands."),
    ("main", ""),
    ("lib", ""),
];
/// How many of them the maps show.
const MAPPED: usize = 10;

/// The layers within `transport/wt`.
const WT_LAYERS: [&str; 7] =
    ["wire", "session", "session_leases", "topic_task", "topic_tasks", "session_setup", "endpoint"];

/// A library and the only modules that may use it.
const BORDERS: [(&str, &[&str]); 7] = [
    ("async_nats", &["stream"]),
    ("jsonwebtoken", &["access"]),
    ("axum", &["http"]),
    ("tokio_postgres", &["source", "postgres"]),
    ("sqlx", &["postgres", "cli"]),
    ("wtransport", &["transport"]),
    ("mio", &["transport"]),
];

/// A file holds one noun; beyond this it holds two.
const LINES_MAX: usize = 400;

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The module at the crate's root that this file belongs to.
    fn module(&self) -> String {
        let inner = self.path.strip_prefix(Path::new(ROOT).join("src")).expect("below src");
        let first = inner.iter().next().expect("a name").to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    }

    /// What is compiled into the program: all before the tests at the end of the file.
    fn program(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests").next().expect("a start")
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&Path::new(ROOT).join(folder), &mut found);
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            found.push(Source { path, text });
        }
    }
}

/// The root modules named by `use crate::…`, in braces or not.
fn imports(text: &str) -> Vec<String> {
    named_after(text, "crate::")
}

/// What is named after this, one by one or in braces.
fn named_after(text: &str, start: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices(start) {
        let rest = &text[at + start.len()..];
        let list = match rest.strip_prefix('{') {
            Some(inner) => top_level(inner),
            None => vec![rest],
        };
        for item in list {
            let name: String =
                item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            names.push(name);
        }
    }
    names
}

/// The items of a braced list, without the lists inside it.
fn top_level(inner: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0_usize, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&inner[start..at]);
                return items;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|(name, _)| *name == module)
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let module = source.module();
        let own = layer(&module).unwrap_or_else(|| panic!("{module} has no layer in tidy.rs"));
        for import in imports(source.program()) {
            if import != module && layer(&import).is_some_and(|below| below > own) {
                wrong.push(format!("{} imports {import}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "upward imports:\n{}", wrong.join("\n"));
}

#[test]
fn the_maps_of_the_modules_say_what_the_layers_say() {
    let line = |(name, purpose): &(&str, &str)| format!("* `{name}`: {purpose}");
    let map: Vec<String> = LAYERS[..MAPPED].iter().map(line).collect();
    for (file, prefix) in [("src/lib.rs", "//! "), ("docs/architecture.md", "")] {
        let text = fs::read_to_string(Path::new(ROOT).join(file)).expect(file);
        let lines = map.iter().map(|line| format!("{prefix}{line}\n"));
        let map: String = lines.collect();
        assert!(text.contains(&map), "{file} has another map than:\n{map}");
    }
}

#[test]
fn src_has_a_folder_for_each_layer_and_one_file_beside_it() {
    for entry in fs::read_dir(Path::new(ROOT).join("src")).expect("a folder").flatten() {
        let path = entry.path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(layer(&name).is_some(), "{} is no layer", path.display());
    }
}

#[test]
fn web_transport_is_built_from_the_wire_up() {
    let mut wrong = Vec::new();
    for source in sources("src/transport/wt") {
        let own =
            source.path.file_stem().and_then(|stem| WT_LAYERS.iter().position(|m| stem == *m));
        for import in named_after(source.program(), "super::") {
            if WT_LAYERS
                .iter()
                .position(|module| import == *module)
                .is_some_and(|at| Some(at) > own)
            {
                wrong.push(format!("{} imports {import}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "upward imports:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_over_400_lines() {
    let long = |source: &Source| source.text.lines().count() > LINES_MAX;
    let all = sources("src").into_iter().chain(sources("tests")).chain(sources("crates"));
    let long: Vec<_> = all.filter(long).map(|source| source.path).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn sql_is_written_in_what_every_encoding_has() {
    // PostgreSQL takes a query in the database's encoding, its comments too.
    let folders = ["migrations", "sql", "sql/doctor", "sql/read_only"];
    for folder in folders.map(|folder| Path::new(ROOT).join(folder)) {
        for file in fs::read_dir(folder).expect("a folder").flatten() {
            let path = file.path();
            if path.extension().is_some_and(|kind| kind == "sql") {
                let text = fs::read_to_string(&path).expect("a file");
                assert!(text.is_ascii(), "{}", path.display());
            }
        }
    }
}

#[test]
fn every_module_says_what_it_is() {
    let silent = |source: &Source| !source.text.starts_with("//!");
    let all = sources("src").into_iter().chain(sources("tests")).chain(sources("crates"));
    let silent: Vec<_> = all.filter(silent).map(|source| source.path).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn libraries_stay_within_their_borders() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        for (library, modules) in BORDERS {
            let module = source.module();
            if !modules.contains(&module.as_str()) && uses(source.program(), library) {
                wrong.push(format!("{} uses {library}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether code, not a comment or a string, names something of this library.
fn uses(text: &str, library: &str) -> bool {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.into_iter().any(|line| {
        line.match_indices(&format!("{library}::")).any(|(at, _)| {
            let before = &line[..at];
            let in_string = before.matches('"').count() % 2 == 1;
            let longer = before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            !in_string && !longer
        })
    })
}

#[test]
fn tests_do_not_sleep() {
    // In two pieces, so that this file does not find itself.
    let calls = [concat!("thread::", "sleep"), concat!("time::", "sleep"), concat!(" sleep", "(")];
    let sleeps = |source: &Source| calls.iter().any(|call| source.text.contains(call));
    let asleep: Vec<_> = sources("tests").into_iter().filter(sleeps).map(|s| s.path).collect();
    assert!(asleep.is_empty(), "{asleep:?}");
}

#[test]
fn metric_names_are_written_in_telemetry_only() {
    let names = |source: &Source| {
        source.module() != "ops"
            && source.program().contains("\"datastream_")
            && !source.program().contains("\"datastream_rounds\"")
            // The alias of a row in the conditions of attached tables.
            && !source.program().contains("\"datastream_row.\"")
    };
    let wrong: Vec<_> = sources("src").into_iter().filter(names).map(|s| s.path).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn every_variable_of_help_is_in_env_example_and_on_the_page_of_the_configuration() {
    let help = datastream(&["serve", "--help"]).run().await.stdout;
    let mut told: Vec<&str> = help
        .split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
        .filter(|word| word.starts_with("DATASTREAM_") || *word == "DATABASE_URL")
        .collect();
    told.extend(VARIABLES);
    for file in [".env.example", "docs/configuration.md"] {
        let text = fs::read_to_string(Path::new(ROOT).join(file)).expect(file);
        for variable in &told {
            assert!(text.contains(variable), "{variable} is not in {file}");
        }
    }
}
