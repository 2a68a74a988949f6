//! `/rounds` and `/rounds/{game}`: lists of finished rounds.

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, header, request::Parts},
    response::Response,
    routing::get,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    AppState, SharedState,
    authorization::Presented,
    hand_off,
    problem::Problem,
    rounds::{GamePath, slug},
    selection::{self, Parameters, PathSelection},
};
use crate::{
    ops::memory_budget::Charge,
    stream::{
        list::{self, ListPlace, ListStart},
        round::{FinishedAt, RoundId},
    },
};

/// The default number of rounds in a page.
const LIMIT_DEFAULT: u16 = 100;
/// The most rounds in a page: about 250 kB.
const LIMIT_MAX: u16 = 1000;
/// Encoded in a path that was sent unencoded: it must not end the link.
const LINK: AsciiSet = CONTROLS.add(b' ').add(b'<').add(b'>').add(b'"');

pub(super) fn router() -> Router<SharedState> {
    Router::new().route("/rounds", get(all)).route("/rounds/{game}", get(of_game))
}

async fn all(State(state): State<SharedState>, request: Request) -> Result<Response, Problem> {
    list(&state, PathSelection::Nothing, &request.into_parts().0).await
}

async fn of_game(
    State(state): State<SharedState>,
    game: GamePath,
    request: Request,
) -> Result<Response, Problem> {
    list(&state, PathSelection::Game(slug(game)?), &request.into_parts().0).await
}

async fn list(state: &AppState, path: PathSelection, request: &Parts) -> Result<Response, Problem> {
    let Parts { uri, headers, extensions, .. } = request;
    let parameters = selection::parameters(uri.query())?;
    let (start, limit) = (start(&parameters)?, limit(&parameters)?);
    let selection = selection::selection(&path, &parameters)?;
    state.permission_for(&selection, Presented::plain(headers)).await?;
    let topic = state.feed.topic(&selection).await?;
    let client = hand_off::client(extensions).address;
    let charge = state.feed.charge_list(client, list::PAGE_BYTES)?;
    let list = state.feed.list(&topic, start, limit.into(), client).await?;
    let json = ListBody::new(list.json, charge).into_bytes();
    let mut response = state.fresh(([(header::CONTENT_TYPE, "application/json")], json));
    if let Some(place) = list.next {
        response.headers_mut().insert(header::LINK, link(uri.path(), &parameters, &place));
    }
    Ok(response)
}

/// The body of a list, charged until the socket has taken it.
pub(super) struct ListBody {
    json: Vec<u8>,
    _charge: Charge,
}

impl ListBody {
    pub(super) fn new(mut json: Vec<u8>, mut charge: Charge) -> Self {
        json.shrink_to_fit();
        charge.shrink(json.len());
        Self { json, _charge: charge }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for ListBody {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

/// The start of a list: `place` of a link, or `before`.
fn start(parameters: &Parameters) -> Result<ListStart, Problem> {
    if let Some(text) = value("place", parameters) {
        let malformed = || Problem::malformed("place is not of a link of this server");
        return decode(text).map(ListStart::After).ok_or_else(malformed);
    }
    match value("before", parameters) {
        Some(text) => selection::named_round("before", text).map(ListStart::Before),
        None => Ok(ListStart::Newest),
    }
}

fn limit(parameters: &Parameters) -> Result<u16, Problem> {
    let Some(text) = value("limit", parameters) else { return Ok(LIMIT_DEFAULT) };
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| Problem::malformed(format!("limit must be 1 to {LIMIT_MAX}")))
}

/// The last value of a parameter. An empty value counts as absent.
fn value<'a>(name: &str, parameters: &'a Parameters) -> Option<&'a str> {
    let named = parameters.iter().filter(|(key, value)| key == name && !value.is_empty());
    named.map(|(_, value)| value.as_str()).next_back()
}

/// The link to the next page (RFC 8288): the same selection and limit, after this place.
fn link(path: &str, parameters: &Parameters, place: &ListPlace) -> HeaderValue {
    let kept = |(name, _): &&(String, String)| ["game", "type", "limit"].contains(&name.as_str());
    let query = parameters
        .iter()
        .filter(kept)
        .map(|(name, value)| format!("{name}={}&", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    let (path, query) = (utf8_percent_encode(path, &LINK), query.collect::<String>());
    let link = format!("<{path}?{query}place={}>; rel=\"next\"", encode(place));
    // Only ASCII without control characters is left.
    HeaderValue::from_str(&link).unwrap_or(HeaderValue::from_static(""))
}

/// A place as an opaque text.
fn encode(place: &ListPlace) -> String {
    let json = serde_json::to_vec(&(place.finished_at.micros(), &place.round));
    BASE64_URL_SAFE_NO_PAD.encode(json.unwrap_or_default())
}

fn decode(text: &str) -> Option<ListPlace> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let (micros, round): (i64, RoundId) = serde_json::from_slice(&json).ok()?;
    Some(ListPlace { finished_at: FinishedAt::from_micros(micros)?, round })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::round::NamedRound;

    fn query(text: &str) -> Parameters {
        selection::parameters(Some(text)).expect("a query")
    }

    fn place(round: RoundId) -> ListPlace {
        let finished_at = FinishedAt::from_micros(1_768_610_742_000_001).expect("in range");
        ListPlace { finished_at, round }
    }

    #[test]
    fn a_page_has_1_to_1000_rounds_and_100_by_default() {
        for (text, expected) in [("", 100), ("limit=", 100), ("limit=1", 1), ("limit=1000", 1000)] {
            assert_eq!(limit(&query(text)).expect("no problem"), expected);
        }
        for refused in ["0", "1001", "-1", "x", "1e2", "70000"] {
            assert!(limit(&query(&format!("limit={refused}"))).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_list_starts_with_the_newest_or_before_a_round() {
        let named = NamedRound::parse("a b").expect("an id");
        assert_eq!(start(&query("")).expect("no problem"), ListStart::Newest);
        assert_eq!(start(&query("before=a%20b")).expect("no problem"), ListStart::Before(named));
        assert!(start(&query("before=a%0Ab")).is_err());
    }

    #[test]
    fn a_place_in_a_link_is_read_as_it_was_written() {
        for round in [RoundId::number(-7), RoundId::text("a \"/:%é<>\u{2028}").expect("an id")] {
            let text = format!("before=5&place={}", encode(&place(round.clone())));
            assert_eq!(start(&query(&text)).expect("no problem"), ListStart::After(place(round)));
        }
        for malformed in ["x", "W10", "%3D", "WzEsIiJd"] {
            assert!(start(&query(&format!("place={malformed}"))).is_err(), "{malformed}");
        }
    }

    #[test]
    fn a_link_keeps_the_selection_and_the_limit() {
        let parameters = query("game=a%26b&type=%C3%A9&limit=5&before=7&place=x&utm=1");
        let place = place(RoundId::number(1));
        let link = link("/rounds/a<b", &parameters, &place);
        let link = link.to_str().expect("ASCII");
        let expected = "</rounds/a%3Cb?game=a%26b&type=%C3%A9&limit=5&place=";
        assert_eq!(link, format!("{expected}{}>; rel=\"next\"", encode(&place)));
    }
}
