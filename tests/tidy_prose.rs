//! The rules for documents: length of the README, of sentences and of table cells, words, and which
//! commands CI runs.

use std::{fs, path::Path};

use super::{ROOT, tidy_words};

/// Beside the pages of `docs/`.
const PAGES: [&str; 7] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "clients/js/README.md",
    "examples/react/README.md",
    "migrations/README.md",
];
/// The list of refused words itself.
const LISTS_WORDS: &str = "CONTRIBUTING.md";
/// Where a block of commands may be run, by `tests/document_commands.rs` or by the test of its page.
const RUNS: [&str; 4] = ["server", "game", "attached", "page"];

const README_LINES_MAX: usize = 220;
const CELL_WORDS_MAX: usize = 40;
const SENTENCE_WORDS_MAX: usize = 30;

/// A document and its text.
pub(super) struct Page {
    pub(super) name: String,
    pub(super) text: String,
}

/// Every document that a user reads.
pub(super) fn pages() -> Vec<Page> {
    let mut names: Vec<String> = PAGES.map(str::to_owned).into();
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(Path::new(ROOT).join(folder)).expect(folder).flatten();
        let files = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.extend(files.filter(|it| it.ends_with(".md")).map(|it| format!("{folder}/{it}")));
    }
    let read = |name: String| Page {
        text: fs::read_to_string(Path::new(ROOT).join(&name)).expect("text"),
        name,
    };
    names.into_iter().map(read).collect()
}

/// The lines outside code blocks, comments and HTML.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence && !line.trim_start().starts_with('<')
    })
}

fn cells(text: &str) -> impl Iterator<Item = String> {
    let rows = prose(text).filter_map(|line| line.strip_prefix('|'));
    let cells = rows.flat_map(|row| row.split('|'));
    cells.map(without_code).filter(|cell| !cell.contains("---"))
}

/// A span of code counts as a word. Addresses of links do not count.
fn without_code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let text: String = parts.map(|(at, part)| if at % 2 == 1 { "code" } else { part }).collect();
    let mut links = text.split("](");
    let first = links.next().unwrap_or_default().to_owned();
    let rest = links.map(|link| link.split_once(')').map_or(link, |(_, rest)| rest));
    first + &rest.collect::<String>()
}

/// The text of an item of a list, without its mark.
fn item(line: &str) -> Option<&str> {
    let (mark, text) = line.split_once(' ')?;
    let is_number = mark.strip_suffix('.').is_some_and(|number| number.parse::<u8>().is_ok());
    (is_number || ["*", "-"].contains(&mark)).then_some(text)
}

/// Paragraphs, items of lists, headings and cells.
fn paragraphs(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for line in prose(text).filter(|line| !line.starts_with('|')) {
        let trimmed = line.trim_start();
        let item = item(trimmed);
        if item.is_some() || trimmed.is_empty() || trimmed.starts_with('#') {
            all.push(String::new());
        }
        let last = all.last_mut().expect("a first one");
        last.push_str(item.unwrap_or(trimmed));
        last.push(' ');
    }
    all.iter().map(|text| without_code(text)).chain(cells(text)).collect()
}

fn sentences(paragraph: &str) -> Vec<Vec<&str>> {
    let words: Vec<_> = paragraph.split_whitespace().collect();
    let ends = |word: &&str| word.trim_end_matches(['*', ')', '"', '_']).ends_with(['.', '!', '?']);
    words.split_inclusive(ends).map(<[_]>::to_vec).collect()
}

#[test]
fn the_readme_has_at_most_220_lines() {
    let pages = pages();
    let readme = pages.iter().find(|page| page.name == "README.md").expect("a README");
    assert!(readme.text.lines().count() <= README_LINES_MAX);
}

#[test]
fn no_table_cell_of_a_document_has_over_40_words() {
    let is_long = |cell: &String| cell.split_whitespace().count() > CELL_WORDS_MAX;
    let all = pages();
    let long: Vec<_> = all
        .iter()
        .flat_map(|page| cells(&page.text).filter(is_long).map(|cell| (&page.name, cell)))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn no_sentence_of_a_document_has_over_30_words() {
    let mut long = Vec::new();
    for page in pages() {
        for paragraph in paragraphs(&page.text) {
            let over = sentences(&paragraph).into_iter().filter(|it| it.len() > SENTENCE_WORDS_MAX);
            long.extend(over.map(|words| format!("{}: {}", page.name, words.join(" "))));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn no_document_speaks_the_old_dialect() {
    let mut faults = Vec::new();
    for page in pages().into_iter().filter(|page| page.name != LISTS_WORDS) {
        faults.extend(tidy_words::dialect_of(&page.name, &page.text));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_block_of_commands_says_how_ci_runs_it_or_why_not() {
    let mut silent = Vec::new();
    for page in pages().into_iter().filter(|page| !page.name.contains("decisions")) {
        let lines: Vec<_> = page.text.lines().collect();
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| line.trim() == "```sh") {
            let mark = lines[at.saturating_sub(1)].trim();
            let is_run = RUNS.iter().any(|place| mark == format!("<!-- run: {place} -->"));
            let is_argued = mark.starts_with("<!-- not run: ") && mark.len() > 30;
            if !is_run && !is_argued && !lines[at + 1].contains("example: ") {
                silent.push(format!("{}:{}: {}", page.name, at + 1, lines[at + 1]));
            }
        }
    }
    assert!(silent.is_empty(), "write <!-- run: … --> above each:\n{}", silent.join("\n"));
}

#[test]
fn sentences_and_cells_are_found() {
    let text = "One `a b c` two. Three\nfour!\n\n| a | b c |\n|---|---|\n```sh\nno\n```\n* [five six](x.md)";
    let found: Vec<_> = paragraphs(text);
    let counts = found.iter().flat_map(|it| sentences(it)).map(|it| it.len());
    assert_eq!(counts.filter(|count| *count > 0).collect::<Vec<_>>(), [3, 2, 2, 1, 2]);
}
