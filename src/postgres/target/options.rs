//! `options=-c name=value`: settings of the session, which libpq sends to the server.

use super::{TargetError, params::Params};

const EXPECTED: &str = "a list such as `-c name=value` (write a space inside a value as `\\ `)";

/// Settings by name, in order. Other switches of the server's command line are refused: only one
/// of the two client libraries could send them.
pub(super) fn parse(params: &Params) -> Result<Vec<(String, String)>, TargetError> {
    let words = words(params.get("options").unwrap_or_default());
    settings(words)
        .ok_or_else(|| TargetError::Value { name: params.name("options"), expected: EXPECTED })
}

/// Escapes the characters that would end a setting.
pub(crate) fn escape(text: &str) -> String {
    text.replace('\\', r"\\").replace(' ', r"\ ")
}

fn settings(words: Vec<String>) -> Option<Vec<(String, String)>> {
    let mut words = words.into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.as_str() {
            "-c" => words.next()?,
            _ => word.strip_prefix("--").or_else(|| word.strip_prefix("-c"))?.to_owned(),
        };
        let (name, value) = setting.split_once('=')?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Some(settings)
}

fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => word.extend(chars.next()),
            char if char.is_whitespace() => words.push(std::mem::take(&mut word)),
            char => word.push(char),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}
