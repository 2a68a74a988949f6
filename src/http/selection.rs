//! The selection and the resume point of a stream request, from path, query and headers.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName};
use percent_encoding::{percent_decode, percent_decode_str};

use super::problem::Problem;
use crate::stream::{
    round::NamedRound,
    start_point::{SeedMode, StartPoint},
    topic::Selection,
};

/// The most names in a selection. A client of more games can select types, or everything.
const NAMES_MAX: usize = 100;
/// The header with which an `EventSource` resumes.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The same as a parameter. Of several, the last one counts: the polyfill appends it.
const LAST_EVENT_ID_PARAMETER: &str = "lastEventId";
/// The parameters that some route reads.
const READ: [&str; 9] =
    ["after", "before", "game", "lastEventId", "limit", "place", "seed", "token", "type"];

/// The decoded parameters of a query, in order.
pub(super) type Parameters = Vec<(String, String)>;

/// The parameters of a query. One that is read and is not UTF-8 is 400. Others are ignored, because
/// proxies and trackers add some.
pub(super) fn parameters(query: Option<&str>) -> Result<Parameters, Problem> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut parameters = Parameters::new();
    for (name, value) in pairs {
        match (decoded(name), decoded(value)) {
            (Some(name), Some(value)) => parameters.push((name, value)),
            (Some(name), None) if READ.contains(&&*name) => {
                return Err(Problem::malformed(format!("{name} is not UTF-8")));
            }
            _ => {}
        }
    }
    Ok(parameters)
}

/// Decodes a part of a query (WHATWG URL, "application/x-www-form-urlencoded"); `None` if it is not
/// UTF-8.
fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(Cow::into_owned)
}

/// The selection in the path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PathSelection {
    /// No selection: only the query selects.
    Nothing,
    /// One game.
    Game(String),
    /// All games of a type.
    Type(String),
}

/// The selection of a path and a query.
pub(super) fn selection(
    path: &PathSelection,
    parameters: &Parameters,
) -> Result<Selection, Problem> {
    let mut selection =
        Selection { games: all("game", parameters), types: all("type", parameters) };
    match path {
        PathSelection::Nothing => {}
        PathSelection::Game(game) => selection.games.push(game.clone()),
        PathSelection::Type(kind) => selection.types.push(kind.clone()),
    }
    if selection.games.len() + selection.types.len() > NAMES_MAX {
        return Err(Problem::malformed(format!(
            "more than {NAMES_MAX} games and types: subscribe to types, or to everything"
        )));
    }
    Ok(selection)
}

/// The start of a stream by `?after=` and `?seed=`.
pub(super) fn start_point(parameters: &Parameters) -> Result<StartPoint, Problem> {
    Ok(StartPoint { after: after(parameters)?, seed: seed(parameters)? })
}

/// The start of an event stream, which may also resume after its last event id.
pub(super) fn events_start_point(
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Result<StartPoint, Problem> {
    Ok(StartPoint { after: last_event_id(headers, parameters)?, seed: seed(parameters)? })
}

/// The seed of `?seed=`. An empty value counts as absent.
fn seed(parameters: &Parameters) -> Result<SeedMode, Problem> {
    let mut values = parameters.iter().filter(|(name, value)| name == "seed" && !value.is_empty());
    match (values.next().map(|(_, value)| value.as_str()), values.next()) {
        (None | Some("latest"), None) => Ok(SeedMode::Latest),
        (Some("each"), None) => Ok(SeedMode::Each),
        (Some("none"), None) => Ok(SeedMode::Nothing),
        (_, Some(_)) => Err(Problem::malformed("seed is given more than once")),
        (Some(other), None) => {
            let other: String = other.chars().take(40).collect();
            Err(Problem::malformed(format!("seed must be latest, each or none, not {other:?}")))
        }
    }
}

/// The resume point of `?after=`. Of several, the last one counts: clients add theirs to a URL that
/// has one.
fn after(parameters: &Parameters) -> Result<Option<NamedRound>, Problem> {
    let given = parameters.iter().rfind(|(name, value)| name == "after" && !value.is_empty());
    given.map(|(_, value)| named_round("after", value)).transpose()
}

/// The resume point of `Last-Event-ID`, or else of `?lastEventId=`, or else of `?after=`. An
/// `EventSource` that reconnects repeats its first URL, and only the header has its last round.
/// Polyfills cannot set the header and add the parameter instead (Yaffle/EventSource).
fn last_event_id(
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Result<Option<NamedRound>, Problem> {
    match headers.get(LAST_EVENT_ID) {
        Some(value) if !value.is_empty() => {
            Ok(Some(event_id(value.as_bytes()).unwrap_or_else(NamedRound::unknown)))
        }
        _ => match parameters
            .iter()
            .rfind(|(name, value)| name == LAST_EVENT_ID_PARAMETER && !value.is_empty())
        {
            Some((name, value)) => {
                let malformed = || Problem::malformed(format!("{name} is no event id"));
                event_id(value.as_bytes()).ok_or_else(malformed).map(Some)
            }
            None => after(parameters),
        },
    }
}

/// The round of an event's id, which is percent-encoded. `None` if it names none: for the header the
/// stream then starts over, because 400 would stop an `EventSource` for good.
fn event_id(value: &[u8]) -> Option<NamedRound> {
    let id = percent_decode(value).decode_utf8().ok()?;
    NamedRound::parse(&id).ok()
}

/// The round that a parameter names.
pub(super) fn named_round(name: &str, value: &str) -> Result<NamedRound, Problem> {
    NamedRound::parse(value)
        .map_err(|error| Problem::malformed(format!("{name} is no round_id: {error}")))
}

fn all(name: &str, parameters: &Parameters) -> Vec<String> {
    parameters.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn query(text: &str) -> Parameters {
        parameters(Some(text)).expect("a query")
    }

    fn named(id: &str) -> Option<NamedRound> {
        Some(NamedRound::parse(id).expect("an id"))
    }

    fn resume(header: &'static str, text: &str) -> Result<Option<NamedRound>, Problem> {
        resume_bytes(header.as_bytes(), text)
    }

    fn resume_bytes(header: &[u8], text: &str) -> Result<Option<NamedRound>, Problem> {
        let value = HeaderValue::from_bytes(header).expect("a header");
        last_event_id(&HeaderMap::from_iter([(LAST_EVENT_ID, value)]), &query(text))
    }

    #[test]
    fn several_games_and_types_are_selected_together() {
        let parameters = query("game=crash&type=color&game=wall%2Dstreet&utm_source=x&games=y");
        let selected = selection(&PathSelection::Nothing, &parameters).expect("a selection");
        assert_eq!(selected.games, ["crash", "wall-street"]);
        assert_eq!(selected.types, ["color"]);
    }

    #[test]
    fn an_empty_selection_is_everything() {
        let selected = selection(&PathSelection::Nothing, &query("")).expect("a selection");
        assert_eq!(selected, Selection::default());
    }

    #[test]
    fn a_path_names_a_game_or_a_type() {
        let game = selection(&PathSelection::Game("crash".into()), &query("after=1"))
            .expect("a selection");
        assert_eq!((game.games, game.types.len()), (vec!["crash".to_owned()], 0));
        let kind =
            selection(&PathSelection::Type("color".into()), &query("")).expect("a selection");
        assert_eq!((kind.types, kind.games.len()), (vec!["color".to_owned()], 0));
    }

    #[test]
    fn more_names_than_the_limit_are_refused() {
        let many = "game=a&".repeat(NAMES_MAX + 1);
        assert!(selection(&PathSelection::Nothing, &query(&many)).is_err());
    }

    #[test]
    fn an_empty_resume_point_counts_as_absent() {
        assert_eq!(after(&query("after=")).expect("no problem"), None);
        assert_eq!(after(&query("")).expect("no problem"), None);
        assert_eq!(resume("", "after=").expect("no problem"), None);
    }

    #[test]
    fn the_header_has_priority_over_the_query_unless_it_is_empty() {
        assert_eq!(resume("7", "after=5").expect("no problem"), named("7"));
        assert_eq!(resume("7", "after=nonsense").expect("no problem"), named("7"));
        assert_eq!(resume("", "after=5").expect("no problem"), named("5"));
    }

    #[test]
    fn the_parameter_of_polyfills_stands_between_the_header_and_after() {
        assert_eq!(resume("", "after=5&lastEventId=6").expect("no problem"), named("6"));
        assert_eq!(resume("7", "lastEventId=6").expect("no problem"), named("7"));
        assert_eq!(resume("", "lastEventId=").expect("no problem"), None);
        assert_eq!(resume("", "lastEventId=&after=5").expect("no problem"), named("5"));
        let twice = resume("", "lastEventId=6&lastEventId=8").expect("no problem");
        assert_eq!(twice, named("8"));
        assert_eq!(resume("", "lastEventId=a%2520b").expect("no problem"), named("a b"));
        assert!(resume("", "lastEventId=%250A").is_err());
    }

    #[test]
    fn the_seed_is_latest_each_or_none() {
        for (text, expected) in [
            ("", SeedMode::Latest),
            ("seed=", SeedMode::Latest),
            ("seed=latest", SeedMode::Latest),
            ("seed=each", SeedMode::Each),
            ("seed=none", SeedMode::Nothing),
        ] {
            assert_eq!(seed(&query(text)).expect("no problem"), expected, "{text}");
        }
        for refused in ["seed=all", "seed=Each", "seed=each&seed=none"] {
            assert!(seed(&query(refused)).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_query_names_a_round_plainly_and_a_header_percent_encoded() {
        let odd = "a b/:%\"'é&=+";
        let encoded = "a%20b%2F%3A%25%22'%C3%A9%26%3D%2B";
        assert_eq!(after(&query(&format!("after={encoded}"))).expect("no problem"), named(odd));
        assert_eq!(after(&query("after=a+b%2520")).expect("no problem"), named("a b%20"));
        for header in ["a%20b/:%25\"'%C3%A9&=+", "a b/:%\"'é&=+"] {
            assert_eq!(resume(header, "").expect("no problem"), named(odd), "{header}");
        }
    }

    #[test]
    fn only_a_query_value_that_cannot_be_an_id_is_refused() {
        let longest = "é".repeat(100);
        for odd in ["abc", "1.5", "%2B5", "+5", "1;2", "9223372036854775808", "%EF%BF%BD", &longest]
        {
            assert!(after(&query(&format!("after={odd}"))).is_ok(), "{odd}");
        }
        for malformed in ["%0A", "a%00", "%C2%85", &"x".repeat(201)] {
            assert!(after(&query(&format!("after={malformed}"))).is_err(), "{malformed}");
        }
        for not_utf8 in ["after=%FF", "before=a%E9", "game=%C3&type=x", "x=1&lastEventId=%80"] {
            assert!(parameters(Some(not_utf8)).is_err(), "{not_utf8}");
        }
        assert_eq!(query("utm=%FF&%FF=1&after=5"), query("after=5"));
        assert_eq!(after(&query("after=5&after=6&after=")).expect("the last"), named("6"));
    }

    #[test]
    fn a_header_that_names_no_round_is_an_unknown_point() {
        let long = "x".repeat(201);
        for odd in [&b"%FF"[..], b"\xff", b"a%0Ab", b"%00", long.as_bytes()] {
            let resumed = resume_bytes(odd, "after=5").expect("no problem");
            assert_eq!(resumed, Some(NamedRound::unknown()), "{odd:?}");
        }
    }
}
