//! `/games`, `/rounds/{game}` and `/rounds/{game}/latest`.

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    http::{Extensions, HeaderMap, HeaderValue, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};

use bytes::Bytes;

use super::{
    AppState, SharedState,
    authorization::Presented,
    hand_off,
    problem::Problem,
    selection::{self, Parameters},
};
use crate::{
    ops::memory_budget::Charge,
    stream::{
        json_writer,
        round::{Game, NamedRound},
        topic::{Selection, Topic},
    },
};

/// The default number of rounds in a page.
const LIMIT_DEFAULT: u16 = 100;
/// The most rounds in a page: about 250 kB.
const LIMIT_MAX: u16 = 1000;
/// The response changes with every round: caches must revalidate it.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
/// The response depends on the token: a cache that clients share must not keep it.
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// A path with a game. Percent-encoding that is not UTF-8 is 400.
type GamePath = Result<Path<String>, PathRejection>;

pub(super) fn router() -> Router<SharedState> {
    Router::new()
        .route("/games", get(games))
        .route("/rounds/{game}", get(rounds))
        .route("/rounds/{game}/latest", get(latest))
}

async fn games(State(state): State<SharedState>, headers: HeaderMap) -> Result<Response, Problem> {
    let permission = state.permission(Presented::plain(&headers)).await?;
    let games = state.feed.games().await?;
    let open = games.iter().filter(|game| permission.opens_game(&game.slug, &game.kind));
    Ok(state.fresh(Json(open.collect::<Vec<_>>())))
}

async fn latest(
    State(state): State<SharedState>,
    game: GamePath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let game = state.open_game(slug(game)?, &headers).await?;
    let frame = state.feed.latest(&Topic::game(game.id))?;
    let none = || Problem::not_found(format!("no round of {:?} has finished yet", game.slug));
    let json = frame.ok_or_else(none)?.json();
    Ok(state.fresh(([(header::CONTENT_TYPE, "application/json")], json)))
}

async fn rounds(
    State(state): State<SharedState>,
    game: GamePath,
    uri: Uri,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, Problem> {
    let parameters = selection::parameters(uri.query())?;
    let (before, limit) = (before(&parameters)?, limit(&parameters)?);
    let client = hand_off::client_address(&extensions);
    let game = state.open_game(slug(game)?, &headers).await?;
    let charge = state.feed.charge_list(client)?;
    let named = before.as_ref().and_then(|named| named.candidates().next());
    let rounds = state.feed.rounds(&game.id, named, limit, client).await?;
    let mut json = Vec::new();
    json_writer::write(&rounds, &mut json);
    let json = ListBody::new(json, charge).into_bytes();
    Ok(state.fresh(([(header::CONTENT_TYPE, "application/json")], json)))
}

/// The body of a list, charged until the socket has taken it.
struct ListBody {
    json: Vec<u8>,
    _charge: Charge,
}

impl ListBody {
    fn new(mut json: Vec<u8>, mut charge: Charge) -> Self {
        json.shrink_to_fit();
        charge.shrink(json.len());
        Self { json, _charge: charge }
    }

    fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for ListBody {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

fn slug(game: GamePath) -> Result<String, Problem> {
    game.map(|Path(slug)| slug).map_err(|error| Problem::malformed(error.body_text()))
}

impl AppState {
    /// The game of this slug, if the request's token opens it.
    async fn open_game(&self, slug: String, headers: &HeaderMap) -> Result<Game, Problem> {
        let selection = Selection { games: vec![slug.clone()], types: Vec::new() };
        self.permission_for(&selection, Presented::plain(headers)).await?;
        Ok(self.feed.game(&slug).await?)
    }

    fn fresh(&self, body: impl IntoResponse) -> Response {
        let cache = if self.verifier.is_some() { PRIVATE } else { NO_CACHE };
        ([(header::CACHE_CONTROL, cache)], body).into_response()
    }
}

/// The last value of a parameter. An empty value counts as absent.
fn value<'a>(name: &str, parameters: &'a Parameters) -> Option<&'a str> {
    let named = parameters.iter().filter(|(key, value)| key == name && !value.is_empty());
    named.map(|(_, value)| value.as_str()).next_back()
}

fn before(parameters: &Parameters) -> Result<Option<NamedRound>, Problem> {
    value("before", parameters).map(|text| selection::named_round("before", text)).transpose()
}

fn limit(parameters: &Parameters) -> Result<u16, Problem> {
    let Some(text) = value("limit", parameters) else { return Ok(LIMIT_DEFAULT) };
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| Problem::malformed(format!("limit must be 1 to {LIMIT_MAX}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_page_has_1_to_1000_rounds_and_100_by_default() {
        assert_eq!(limit(&parameters(&[])).expect("no problem"), 100);
        assert_eq!(limit(&parameters(&[("limit", "")])).expect("no problem"), 100);
        assert_eq!(limit(&parameters(&[("limit", "1")])).expect("no problem"), 1);
        assert_eq!(limit(&parameters(&[("limit", "1000")])).expect("no problem"), 1000);
        for refused in ["0", "1001", "-1", "x", "1e2", "70000"] {
            assert!(limit(&parameters(&[("limit", refused)])).is_err(), "{refused}");
        }
    }

    #[test]
    fn before_is_a_round_id() {
        let named = NamedRound::parse("9").expect("an id");
        assert_eq!(before(&parameters(&[("before", "9")])).expect("no problem"), Some(named));
        assert_eq!(before(&parameters(&[])).expect("no problem"), None);
        assert!(before(&parameters(&[("before", "a\nb")])).is_err());
    }
}
