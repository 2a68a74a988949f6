//! `/games` and `/rounds/{game}/latest`.

use axum::{
    Router,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{
    AppState, SharedState, authorization::Presented, hand_off, lists::ListBody, problem::Problem,
};
use crate::stream::{
    round::Game,
    topic::{Selection, Topic},
};

/// The response changes with every round: caches must revalidate it.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
/// The response depends on the token: a cache that clients share must not keep it.
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// The bytes of a game's JSON besides its names.
const GAME_JSON_BYTES: usize = 64;

/// A path with a game. Percent-encoding that is not UTF-8 is 400.
pub(super) type GamePath = Result<Path<String>, PathRejection>;

pub(super) fn router() -> Router<SharedState> {
    Router::new().route("/games", get(games)).route("/rounds/{game}/latest", get(latest))
}

async fn games(State(state): State<SharedState>, request: Request) -> Result<Response, Problem> {
    let permission = state.permission(Presented::plain(request.headers())).await?;
    let games = state.feed.games().await?;
    let open = games.iter().filter(|game| permission.opens_game(&game.slug, &game.kind));
    let open: Vec<_> = open.collect();
    let client = hand_off::client(request.extensions()).address;
    let bytes = open.iter().map(|game| game.name_bytes() + GAME_JSON_BYTES).sum();
    let charge = state.feed.charge_list(client, bytes)?;
    // Names are text: nothing else can fail.
    let json = serde_json::to_vec(&open).unwrap_or_default();
    let json = ListBody::new(json, charge).into_bytes();
    Ok(state.fresh(([(header::CONTENT_TYPE, "application/json")], json)))
}

async fn latest(
    State(state): State<SharedState>,
    game: GamePath,
    request: Request,
) -> Result<Response, Problem> {
    let client = hand_off::client(request.extensions()).address;
    let game = state.open_game(slug(game)?, request.headers()).await?;
    let frame = state.feed.latest(&Topic::game(game.id), client).await?;
    let none = || Problem::not_found(format!("no round of {:?} has finished yet", game.slug));
    let json = frame.ok_or_else(none)?.json();
    Ok(state.fresh(([(header::CONTENT_TYPE, "application/json")], json)))
}

pub(super) fn slug(game: GamePath) -> Result<String, Problem> {
    game.map(|Path(slug)| slug).map_err(|error| Problem::malformed(error.body_text()))
}

impl AppState {
    /// The game of this slug, if the request's token opens it.
    async fn open_game(&self, slug: String, headers: &HeaderMap) -> Result<Game, Problem> {
        let selection = Selection { games: vec![slug.clone()], types: Vec::new() };
        self.permission_for(&selection, Presented::plain(headers)).await?;
        Ok(self.feed.game(&slug).await?)
    }

    pub(super) fn fresh(&self, body: impl IntoResponse) -> Response {
        let cache = if self.verifier.is_some() { PRIVATE } else { NO_CACHE };
        ([(header::CACHE_CONTROL, cache)], body).into_response()
    }
}
