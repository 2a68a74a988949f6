//! Reads of the directory of games. A game that PostgreSQL cannot read hides no other: halving finds it.

use std::{borrow::Cow, fmt::Display};

use crate::{
    ops::halves::Halves,
    stream::{
        round::{Game, GameId},
        skipped_rounds::SkippedRounds,
    },
};

/// The queries for games of either client library, over our views or the operator's queries.
pub(crate) trait GameQueries: Sync {
    /// Why a query failed.
    type Error: Display + Send;

    /// The ids of all games.
    fn keys(&self) -> impl Future<Output = Result<Vec<GameId>, Self::Error>> + Send;

    /// These games, or all. Without names, each has its slug as the name.
    fn games(
        &self,
        ids: Option<&[GameId]>,
        with_names: bool,
    ) -> impl Future<Output = Result<Vec<Game>, Self::Error>> + Send;

    /// Whether the content of a row made a query fail.
    fn is_of_data(error: &Self::Error) -> bool;

    /// PostgreSQL's reason.
    fn reason(error: &Self::Error) -> String {
        error.to_string()
    }
}

/// `sql/games.sql` or that of the read-only mode, which may read no names. A parameter would not do:
/// PostgreSQL evaluates a column that a plan may need.
pub(crate) fn query(games: &'static str, with_names: bool) -> Cow<'static, str> {
    if with_names {
        return games.into();
    }
    let ours = games.replace("g.name as name", "g.slug as name");
    ours.replace("coalesce({name}, {slug}) as name", "{slug} as name").into()
}

/// All games that can be read, by id. The others are logged, once each.
pub(crate) async fn read<Q: GameQueries>(
    queries: &Q,
    skipped: Option<&SkippedRounds>,
) -> Result<Vec<Game>, Q::Error> {
    match queries.games(None, true).await {
        Err(error) if Q::is_of_data(&error) => {
            let (games, unreadable) = read_each(queries, &queries.keys().await?).await?;
            if let Some(skipped) = skipped {
                skipped.report_games(&unreadable);
            }
            Ok(games)
        }
        games => games,
    }
}

/// The games of these ids, and those that cannot be read with the reason.
pub(crate) async fn read_each<Q: GameQueries>(
    queries: &Q,
    ids: &[GameId],
) -> Result<(Vec<Game>, Vec<(GameId, String)>), Q::Error> {
    let (mut games, mut unreadable, mut halves) = (Vec::new(), Vec::new(), Halves::of(ids));
    while let Some(part) = halves.next_part() {
        match queries.games(Some(part), true).await {
            Ok(found) => games.extend(found),
            Err(error) if Q::is_of_data(&error) => {
                let Some(id) = halves.split(part) else { continue };
                // Rounds have no name: a game without a readable one is streamed.
                match queries.games(Some(part), false).await {
                    Ok(found) => games.extend(found),
                    Err(error) if Q::is_of_data(&error) => {
                        unreadable.push((id.clone(), Q::reason(&error)));
                    }
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok((games, unreadable))
}
