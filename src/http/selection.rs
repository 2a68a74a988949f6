//! The selection and the resume point of a stream request, from path, query and headers.

use axum::http::{HeaderMap, HeaderName};

use super::problem::Problem;
use crate::stream::{
    round::RoundId,
    start_point::{SeedMode, StartPoint},
    topic::Selection,
};

/// The most names in a selection. A client of more games can select types, or everything.
const NAMES_MAX: usize = 100;
/// The header with which an `EventSource` resumes.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The same as a parameter. Of several, the last one counts: the polyfill appends it.
const LAST_EVENT_ID_PARAMETER: &str = "lastEventId";

/// The decoded parameters of a query, in order.
pub(super) type Parameters = Vec<(String, String)>;

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

/// The selection of a path and a query. Unknown parameters are ignored, because proxies and
/// trackers add some.
pub(super) fn selection(
    path: PathSelection,
    parameters: &Parameters,
) -> Result<Selection, Problem> {
    let mut selection =
        Selection { games: all("game", parameters), types: all("type", parameters) };
    match path {
        PathSelection::Nothing => {}
        PathSelection::Game(game) => selection.games.push(game),
        PathSelection::Type(kind) => selection.types.push(kind),
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

/// The resume point of `?after=`.
fn after(parameters: &Parameters) -> Result<Option<RoundId>, Problem> {
    let mut values = parameters.iter().filter(|(name, value)| name == "after" && !value.is_empty());
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some((_, value)), None) => round_id("after", value).map(Some),
        (Some(_), Some(_)) => Err(Problem::malformed("after is given more than once")),
    }
}

/// The resume point of `Last-Event-ID`, or else of `?lastEventId=`, or else of `?after=`. An
/// `EventSource` that reconnects repeats its first URL, and only the header has its last round.
/// Polyfills cannot set the header and add the parameter instead (Yaffle/EventSource).
fn last_event_id(headers: &HeaderMap, parameters: &Parameters) -> Result<Option<RoundId>, Problem> {
    match headers.get(LAST_EVENT_ID) {
        Some(value) if !value.is_empty() => {
            let value = value.to_str().unwrap_or("(not ASCII)");
            round_id("Last-Event-ID", value).map(Some)
        }
        _ => match parameters
            .iter()
            .rfind(|(name, value)| name == LAST_EVENT_ID_PARAMETER && !value.is_empty())
        {
            Some((name, value)) => round_id(name, value).map(Some),
            None => after(parameters),
        },
    }
}

/// A `round_id` in decimal. Rust would also accept `+5`.
pub(super) fn round_id(name: &str, value: &str) -> Result<RoundId, Problem> {
    value.parse().ok().filter(|_| !value.starts_with('+')).map(RoundId::number).ok_or_else(|| {
        let value: String = value.chars().take(40).collect();
        Problem::malformed(format!(
            "{name} must be a round_id, which is a whole number, not {value:?}"
        ))
    })
}

fn all(name: &str, parameters: &Parameters) -> Vec<String> {
    parameters.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{
        extract::Query,
        http::{HeaderValue, Uri},
    };

    fn query(text: &str) -> Parameters {
        let uri: Uri = format!("/ws?{text}").parse().expect("a URI");
        Query::try_from_uri(&uri).map(|Query(parameters)| parameters).expect("a query")
    }

    fn resume(header: &'static str, text: &str) -> Result<Option<RoundId>, Problem> {
        let headers = HeaderMap::from_iter([(LAST_EVENT_ID, HeaderValue::from_static(header))]);
        last_event_id(&headers, &query(text))
    }

    #[test]
    fn several_games_and_types_are_selected_together() {
        let parameters = query("game=crash&type=color&game=wall%2Dstreet&utm_source=x&games=y");
        let selected = selection(PathSelection::Nothing, &parameters).expect("a selection");
        assert_eq!(selected.games, ["crash", "wall-street"]);
        assert_eq!(selected.types, ["color"]);
    }

    #[test]
    fn an_empty_selection_is_everything() {
        let selected = selection(PathSelection::Nothing, &query("")).expect("a selection");
        assert_eq!(selected, Selection::default());
    }

    #[test]
    fn a_path_names_a_game_or_a_type() {
        let game =
            selection(PathSelection::Game("crash".into()), &query("after=1")).expect("a selection");
        assert_eq!((game.games, game.types.len()), (vec!["crash".to_owned()], 0));
        let kind = selection(PathSelection::Type("color".into()), &query("")).expect("a selection");
        assert_eq!((kind.types, kind.games.len()), (vec!["color".to_owned()], 0));
    }

    #[test]
    fn more_names_than_the_limit_are_refused() {
        let many = "game=a&".repeat(NAMES_MAX + 1);
        assert!(selection(PathSelection::Nothing, &query(&many)).is_err());
    }

    #[test]
    fn an_empty_resume_point_counts_as_absent() {
        assert_eq!(after(&query("after=")).expect("no problem"), None);
        assert_eq!(after(&query("")).expect("no problem"), None);
        assert_eq!(resume("", "after=").expect("no problem"), None);
    }

    #[test]
    fn the_header_has_priority_over_the_query_unless_it_is_empty() {
        assert_eq!(resume("7", "after=5").expect("no problem"), Some(RoundId::number(7)));
        assert_eq!(resume("7", "after=nonsense").expect("no problem"), Some(RoundId::number(7)));
        assert_eq!(resume("", "after=5").expect("no problem"), Some(RoundId::number(5)));
    }

    #[test]
    fn the_parameter_of_polyfills_stands_between_the_header_and_after() {
        assert_eq!(
            resume("", "after=5&lastEventId=6").expect("no problem"),
            Some(RoundId::number(6))
        );
        assert_eq!(resume("7", "lastEventId=6").expect("no problem"), Some(RoundId::number(7)));
        assert_eq!(resume("", "lastEventId=").expect("no problem"), None);
        assert_eq!(
            resume("", "lastEventId=&after=5").expect("no problem"),
            Some(RoundId::number(5))
        );
        let twice = resume("", "lastEventId=6&lastEventId=8").expect("no problem");
        assert_eq!(twice, Some(RoundId::number(8)));
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
    fn a_malformed_resume_point_is_refused() {
        for nonsense in ["abc", "1.5", "0x10", "%2B5", "%205", "1;2", "9223372036854775808", "1e3"]
        {
            assert!(after(&query(&format!("after={nonsense}"))).is_err(), "{nonsense}");
        }
        assert!(after(&query("after=1&after=2")).is_err());
        assert!(resume("abc", "after=5").is_err());
    }
}
