//! Reads of the directory of games on a connection of the capture.

use std::borrow::Cow;

use tokio_postgres::types::Type;

use super::{
    error::CaptureError,
    session::{CATCH_UP_WITHIN, Parameter, Session, within},
};
use crate::{
    postgres::{games::GameQueries, rows},
    stream::round::{Game, GameId},
};

/// The two queries.
#[derive(Debug)]
pub(super) struct SessionGames<'a> {
    pub(super) session: &'a Session,
    /// `sql/game_keys.sql`, or that of the read-only mode.
    pub(super) keys: Cow<'static, str>,
    /// `sql/games.sql`, likewise.
    pub(super) games: Cow<'static, str>,
    /// The same without names.
    pub(super) unnamed: Cow<'static, str>,
}

impl GameQueries for SessionGames<'_> {
    type Error = CaptureError;

    async fn keys(&self) -> Result<Vec<GameId>, CaptureError> {
        let found = within(CATCH_UP_WITHIN, self.session.query(&self.keys, &[])).await?;
        let ids = found.iter().filter_map(|row| rows::game_id(row).map(Result::ok).transpose());
        Ok(ids.collect::<Result<_, _>>()?)
    }

    async fn games(
        &self,
        ids: Option<&[GameId]>,
        with_names: bool,
    ) -> Result<Vec<Game>, CaptureError> {
        let (numbers, texts) = ids.map(GameId::by_kind).unzip();
        let parameters: [Parameter<'_>; 2] =
            [(&numbers, Type::INT8_ARRAY), (&texts, Type::TEXT_ARRAY)];
        let query = if with_names { &self.games } else { &self.unnamed };
        let found = within(CATCH_UP_WITHIN, self.session.query(query, &parameters)).await?;
        let games = found.iter().filter_map(|row| rows::game(row).transpose());
        Ok(games.collect::<Result<_, _>>()?)
    }

    fn is_of_data(error: &CaptureError) -> bool {
        error.is_of_data()
    }
}
