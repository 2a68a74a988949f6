//! The words of this project: CONTRIBUTING's table names the right ones, this list the wrong ones.
//!
//! Only what is unambiguous is listed. Names of the public contract contain none of it.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use testkit::binary::datastream;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const FOLDERS: [&str; 5] = ["src", "sql", "migrations", "tests", "crates"];
const KINDS: [&str; 7] = ["rs", "sql", "js", "mjs", "py", "sh", "html"];
/// Fetched packages, and this list.
const NOT_OURS: [&str; 3] = ["node_modules", "packages", "tidy_words.rs"];

/// Refused words, in lower case. A space stands for `_` and for a change of case, too.
const DIALECT: [&str; 63] = [
    "bell",
    "bells",
    "ringer",
    "rung",
    "ring the",
    "rings the",
    "ringing the",
    "ring it",
    "sends word",
    "send word",
    "a word about",
    "is told",
    "are told",
    "was told",
    "were told",
    "be told",
    "been told",
    "who is told",
    "who is slower",
    "who comes",
    "who reads",
    "who asks",
    "whoever",
    "what is gone",
    "mend",
    "mends",
    "mended",
    "cure",
    "cures",
    "cured",
    "anew",
    "gives way",
    "of ours",
    "lately",
    "landmark",
    "landmarks",
    "mind company",
    "company",
    "greet",
    "greets",
    "greeting",
    "greetings",
    "hear",
    "hears",
    "heard",
    "door",
    "seat",
    "seats",
    "take off",
    "lobby",
    "rooms",
    "ledger",
    "beats",
    "pump",
    "obey",
    "obeys",
    "heed",
    "heeds",
    "keep time",
    "look after",
    "judge",
    "judges",
    "odd rounds",
];
/// A phrase and the word after it that makes it a usual one: "a client is told to retry" names what
/// the server sends.
const USUAL: [(&str, &str); 2] = [("told", "to"), ("off", "list")];
/// A refused word that is a name there: a symbol of a slot machine, a place at a table.
const NAMES: [(&str, &str); 4] = [
    ("src/cli/demo/games.rs", "bell"),
    ("src/http/page/results.js", "bell"),
    ("tests/shapes/unusual.rs", "seat"),
    ("tests/shapes/unusual.rs", "seats"),
];

/// Paths that still hold refused words. A path without any must leave this list.
const STILL_DIALECT: [&str; 0] = [];
/// Paths that still hold a message of a sentence over the limit, likewise.
const STILL_LONG: [&str; 0] = [];

/// In a message or in `--help`.
const WORDS_MAX: usize = 35;

/// A fault, and the path that it is in.
struct Fault {
    path: String,
    says: String,
}

fn files() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for folder in FOLDERS {
        collect(&Path::new(ROOT).join(folder), &mut paths);
    }
    paths.sort();
    let name = |path: &Path| path.strip_prefix(ROOT).expect("below").display().to_string();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).expect("text"))).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if NOT_OURS.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        let kind = path.extension().map(|kind| kind.to_string_lossy().into_owned());
        if path.is_dir() {
            collect(&path, found);
        } else if kind.is_some_and(|kind| KINDS.contains(&kind.as_str())) {
            found.push(path);
        }
    }
}

/// The words in lower case, each with its line. An empty one stands for a mark that ends a phrase.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let (mut word, mut is_lower) = (String::new(), false);
        for c in line.chars().chain([' ']) {
            if !c.is_alphanumeric() || (c.is_uppercase() && is_lower) {
                words.extend((!word.is_empty()).then(|| (at + 1, std::mem::take(&mut word))));
            }
            if c.is_alphanumeric() {
                word.extend(c.to_lowercase());
            } else if ".,;:()\"".contains(c) {
                words.push((at + 1, String::new()));
            }
            is_lower = c.is_lowercase();
        }
    }
    words
}

fn dialect(path: &str, text: &str) -> Vec<Fault> {
    let words = words(text);
    let mut phrases: HashMap<&str, Vec<&str>> = HashMap::new();
    for phrase in DIALECT.into_iter().filter(|phrase| !NAMES.contains(&(path, phrase))) {
        phrases.entry(phrase.split(' ').next().unwrap_or_default()).or_default().push(phrase);
    }
    let mut faults = Vec::new();
    for (at, (line, first)) in words.iter().enumerate() {
        for phrase in phrases.get(first.as_str()).into_iter().flatten() {
            if is_phrase(phrase, &words[at..]) {
                let says = format!("{path}:{line}: {phrase}");
                faults.push(Fault { path: path.to_owned(), says });
            }
        }
    }
    faults
}

/// The refused words of a document, each with its line.
pub(super) fn dialect_of(name: &str, text: &str) -> Vec<String> {
    dialect(name, text).into_iter().map(|fault| fault.says).collect()
}

/// Whether the words begin with this phrase, and not in a usual sense.
fn is_phrase(phrase: &str, words: &[(usize, String)]) -> bool {
    let parts: Vec<&str> = phrase.split(' ').collect();
    let next = words.get(parts.len()).map_or("", |(_, word)| word);
    let found = words.iter().map(|(_, word)| word).take(parts.len());
    found.eq(&parts) && !USUAL.contains(&(parts[parts.len() - 1], next))
}

/// Fails for each fault outside the excepted paths, and for each exception that nothing needs.
fn assert_none(faults: &[Fault], excepted: &[&str]) {
    let is_excepted = |fault: &&Fault| excepted.iter().any(|path| fault.path.starts_with(path));
    let new: Vec<_> = faults.iter().filter(|fault| !is_excepted(fault)).collect();
    let paths: BTreeSet<_> = new.iter().map(|fault| fault.path.as_str()).collect();
    let says: Vec<_> = new.iter().map(|fault| fault.says.as_str()).collect();
    assert!(says.is_empty(), "{}\nin {paths:?}", says.join("\n"));
    let is_clean = |path: &&&str| !faults.iter().any(|fault| fault.path.starts_with(**path));
    let clean: Vec<_> = excepted.iter().filter(is_clean).collect();
    assert!(clean.is_empty(), "clean by now: delete them from the list of exceptions: {clean:?}");
}

#[test]
fn no_source_speaks_the_old_dialect() {
    let faults: Vec<_> = files().iter().flat_map(|(path, text)| dialect(path, text)).collect();
    assert_none(&faults, &STILL_DIALECT);
}

#[test]
fn words_are_found_in_every_spelling() {
    for text in ["take_off()", "struct TakeOff", "the client is\n/// told of it"] {
        assert_eq!(dialect("a", text).len(), 1, "{text}");
    }
    for text in ["the client is told to retry", "a spring, the summer", "accompany", "in the ring"]
    {
        assert_eq!(dialect("a", text).len(), 0, "{text}");
    }
}

/// The string literals of a Rust source, without its tests. SQL is no message.
fn rust_messages(text: &str) -> Vec<String> {
    let program = text.split("#[cfg(test)]\nmod tests").next().expect("a start");
    let code = program.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: Vec<char> = code.collect::<Vec<_>>().join("\n").chars().collect();
    let (mut messages, mut at) = (Vec::new(), 0);
    while at < code.len() {
        match (code[at], code.get(at + 1), code.get(at + 2)) {
            ('\'', Some('\\'), _) => at += 4,
            ('\'', _, Some('\'')) => at += 3,
            ('"', ..) => {
                let end = end_of_string(&code, at);
                messages.push(code[at + 1..end].iter().collect::<String>());
                at = end + 1;
            }
            _ => at += 1,
        }
    }
    let joined = messages.iter().map(|it| it.replace("\\\n", " ").replace("\\n", "\n\n"));
    joined.filter(|message| !is_sql(message)).collect()
}

/// The place of the quotation mark that closes the string literal which opens at `start`.
fn end_of_string(code: &[char], start: usize) -> usize {
    let is_raw = code[..start].iter().rev().find(|c| **c != '#') == Some(&'r');
    let hashes = code[..start].iter().rev().take_while(|c| **c == '#').count();
    let mut at = start + 1;
    while at < code.len() {
        let closes = || code[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        match code[at] {
            '\\' if !is_raw => at += 2,
            '"' if !is_raw || closes() => return at,
            _ => at += 1,
        }
    }
    panic!("a string without an end");
}

fn is_sql(message: &str) -> bool {
    let first = message.split_whitespace().next().unwrap_or_default();
    ["select", "insert", "update", "delete", "with", "create", "alter", "do", "set"]
        .contains(&first)
}

/// The texts of an SQL file, without its comments.
fn sql_messages(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("--"));
    let code = code.collect::<Vec<_>>().join("\n").replace("''", "’");
    code.split('\'').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The sentences over the limit; a blank line or a mark before a space ends one.
fn long_sentences(text: &str) -> Vec<String> {
    let mut long = Vec::new();
    for paragraph in text.split("\n\n") {
        let mut sentence = Vec::new();
        for word in paragraph.split_whitespace() {
            sentence.push(word);
            if word.ends_with(['.', '!', '?']) {
                long.extend(over_the_limit(&sentence));
                sentence.clear();
            }
        }
        long.extend(over_the_limit(&sentence));
    }
    long
}

fn over_the_limit(sentence: &[&str]) -> Option<String> {
    (sentence.len() > WORDS_MAX).then(|| sentence.join(" "))
}

#[test]
fn no_message_has_a_sentence_over_35_words() {
    let mut faults = Vec::new();
    for (path, text) in files() {
        let messages = match path.split('/').next() {
            Some("src") if path.ends_with(".rs") => rust_messages(&text),
            Some("sql") => sql_messages(&text),
            _ => continue,
        };
        for sentence in messages.iter().flat_map(|message| long_sentences(message)) {
            faults.push(Fault { path: path.clone(), says: format!("{path}: {sentence}") });
        }
    }
    assert_none(&faults, &STILL_LONG);
}

#[tokio::test]
async fn no_help_has_a_sentence_over_35_words() {
    let top = datastream(&["--help"]).run().await.stdout;
    let listed = top.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let commands: Vec<_> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.contains(&"serve"), "{top}");
    for command in commands {
        let help = datastream(&[command, "--help"]).run().await.stdout;
        let long = long_sentences(&help);
        assert!(long.is_empty(), "{command} --help:\n{}", long.join("\n"));
    }
}
