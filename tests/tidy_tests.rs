//! The tests that the guarantees and the Makefile name.

use std::{fs, path::Path};

use super::{ROOT, Source, sources};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).expect(path)
}

/// Whether the source is of this module; its tests may be in the same file.
fn is_of(source: &Source, module: &str) -> bool {
    let path = source.path.strip_prefix(ROOT).expect("below").with_extension("");
    let path = path.to_string_lossy().replace('/', "::");
    let own = path.strip_prefix("src::").or_else(|| path.strip_prefix("tests::"));
    own == Some(module) || (own.is_some() && own == module.strip_suffix("::tests"))
}

/// Whether the module has this test. A name may end with `*` or `…`.
fn has(sources: &[Source], module: &str, name: &str) -> bool {
    let declared = match name.strip_suffix(['*', '…']) {
        Some("") => "fn ".to_owned(),
        Some(start) => format!("fn {start}"),
        None => format!("fn {name}("),
    };
    sources.iter().any(|source| is_of(source, module) && source.text.contains(&declared))
}

/// The tests that a list names, each with its module: its own, or that of the name before it.
fn named_in(list: &str) -> Vec<(&str, &str)> {
    let mut module = "";
    let mut found = Vec::new();
    for path in list.split('`').skip(1).step_by(2) {
        let name = match path.rsplit_once("::") {
            Some((own, name)) => {
                module = own;
                name
            }
            // The others are programs.
            None if path.contains('_') => path,
            None => continue,
        };
        found.push((module, name));
    }
    found
}

#[test]
fn the_tests_that_the_guarantees_name_exist() {
    let guarantees = read("docs/guarantees.md");
    let all: Vec<_> = ["src", "tests", "crates"].into_iter().flat_map(sources).collect();
    let promises: Vec<_> = guarantees.split("\n### G").skip(1).collect();
    assert!(promises.len() >= 38, "{} promises", promises.len());
    let mut missing = Vec::new();
    for promise in promises {
        let list = promise.lines().find_map(|line| line.strip_prefix("Test: "));
        let tests = named_in(list.unwrap_or_else(|| panic!("no test: {promise}")));
        missing.extend(tests.into_iter().filter(|(module, name)| !has(&all, module, name)));
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// The words of a variable of the Makefile.
fn variable(name: &str) -> Vec<String> {
    let makefile = read("Makefile").replace("\\\n", " ");
    let start = format!("{name} := ");
    let value = makefile.lines().find_map(|line| line.strip_prefix(&start)).expect("a variable");
    value.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_modules_that_the_makefile_picks_exist_and_no_other_has_such_a_name() {
    let main = read("tests/main.rs");
    let declared = main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let declared: Vec<_> = declared.collect();
    let picked = [variable("ANY_VERSION"), variable("BUS_MODULES")].concat();
    assert!(picked.len() > 10, "{picked:?}");
    for module in picked.iter().map(|module| module.trim_end_matches("::")) {
        // libtest finds the word anywhere in the path of a test.
        let found: Vec<_> = declared.iter().filter(|name| name.ends_with(module)).collect();
        assert_eq!(found, [&module]);
    }
}
