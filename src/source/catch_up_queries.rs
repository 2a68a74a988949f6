//! Queries of the initial load and of a catch-up.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use tokio_postgres::{Row, types::Type};

use super::{
    content_reader::{ChunkSize, ContentReader},
    cursor::{Lsn, OutboxKey, RoundKey, Seen},
    error::CaptureError,
    games::SessionGames,
    pace,
    poll::{Content, FoundRow},
    rows::recent_row,
    session::{ANSWER_WITHIN, CATCH_UP_WITHIN, Parameter, PreparedQuery, Session, within},
};
use crate::{
    postgres::{
        games,
        rows::{attachment, game_id, round_id, skipped_row},
        sql::sql,
    },
    stream::{
        round::{FinishedAt, Game, GameId, Round, RoundId},
        skipped_rounds::SkippedRounds,
        snapshot::Snapshot,
        transaction::{Attachment, RoundName, Xid},
    },
};

/// Outbox rows that the initial load looks at: as many as a client may miss by default. Ten times as
/// many take a second, and a connection that breaks more often than that would never be live.
const RECENT_ROWS: i64 = 10_000;
/// The most rounds of a game among which a start looks for one that can be sent: 100 at a time.
const SEED_PAGE: i64 = 100;
const SEED_PAGES_MAX: usize = 100;
/// A commit without a wait is flushed within three times `wal_writer_delay`, 0.6 s (PostgreSQL,
/// "Asynchronous Commit"). If that setting was raised, the stream begins all the same.
const FLUSHED_WITHIN: Duration = Duration::from_secs(1);

/// A finished round, without its content.
#[derive(Clone, Debug)]
pub(super) struct FinishedRound {
    pub(super) attachment: Attachment,
    pub(super) key: RoundKey,
}

/// The latest round of a game.
#[derive(Clone, Debug)]
pub(super) struct LatestName {
    pub(super) game: GameId,
    /// `None` if its id cannot be sent.
    pub(super) round: Option<RoundName>,
}

/// Queries on the LISTEN connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct CatchUpQueries<'a> {
    pub(super) session: &'a Session,
    /// Counts rounds that cannot be sent.
    pub(super) skipped: Option<&'a SkippedRounds>,
}

impl<'s> CatchUpQueries<'s> {
    /// The current snapshot.
    pub(super) async fn snapshot(self) -> Result<Snapshot, CaptureError> {
        let query = self.session.query_one("select pg_current_snapshot()::text", &[]);
        let row = within(ANSWER_WITHIN, query).await?;
        Ok(row.try_get::<_, &str>(0)?.parse()?)
    }

    /// The database's clock, in microseconds since the epoch.
    pub(super) async fn now(self) -> Result<i64, CaptureError> {
        let query = self.session.query_one("select datastream.micros(clock_timestamp())", &[]);
        Ok(within(ANSWER_WITHIN, query).await?.try_get(0)?)
    }

    /// Waits until no crash can take back anything that a snapshot sees, since the next connection
    /// may begin there (C3). Returns whether that is so.
    pub(super) async fn is_flushed(self, seen: &Seen) -> Result<bool, CaptureError> {
        let begun = Instant::now();
        while self.flushed().await? < seen.inserted {
            if begun.elapsed() > FLUSHED_WITHIN {
                return Ok(false);
            }
            tokio::time::sleep(pace::ACTIVE).await;
        }
        Ok(true)
    }

    async fn flushed(self) -> Result<Lsn, CaptureError> {
        let query = "select (pg_current_wal_flush_lsn() - '0/0')::bigint";
        Ok(Lsn(within(ANSWER_WITHIN, self.session.query_one(query, &[])).await?.try_get(0)?))
    }

    /// Whether a row of the outbox is there.
    pub(super) async fn has(self, row: OutboxKey) -> Result<bool, CaptureError> {
        let xid = row.finish.xid.0.cast_signed();
        let Attachment(attachment) = row.finish.attachment;
        let (round, key) = row.finish.round.columns();
        let parameters: [Parameter<'_>; 5] = [
            (&xid, Type::INT8),
            (&attachment, Type::INT4),
            (&round, Type::INT8),
            (&key, Type::TEXT),
            (&row.at, Type::INT8),
        ];
        let query = self.session.query_one(sql!("recorded"), &parameters);
        Ok(within(ANSWER_WITHIN, query).await?.try_get("recorded")?)
    }

    /// The last transaction whose rounds retention has deleted.
    pub(super) async fn trimmed(self) -> Result<Xid, CaptureError> {
        let query = self.session.query_one(sql!("trimmed"), &[]);
        let row = within(ANSWER_WITHIN, query).await?;
        Ok(Xid(row.try_get::<_, i64>("xid")?.cast_unsigned()))
    }

    /// The outbox rows of the recent rounds of every game that the snapshot sees, newest first, and
    /// the transaction up to which some may be missing.
    pub(super) async fn recent(
        self,
        snapshot: &Snapshot,
        per_game: i64,
    ) -> Result<(Vec<FoundRow>, Xid), CaptureError> {
        let query = sql!("recent");
        let snapshot = snapshot.to_string();
        let parameters: [Parameter<'_>; 3] =
            [(&snapshot, Type::TEXT), (&per_game, Type::INT8), (&RECENT_ROWS, Type::INT8)];
        let rows = within(CATCH_UP_WITHIN, self.session.query(query, &parameters)).await?;
        let floor = rows.first().map(|row| row.try_get::<_, Option<i64>>("floor"));
        let floor = Xid(floor.transpose()?.flatten().unwrap_or(0).cast_unsigned());
        let unread = |row| FoundRow { row, content: Content::Unread };
        let found = rows.iter().filter_map(|row| recent_row(row).transpose());
        let found = found.map(|row| Ok(unread(row?)));
        Ok((found.collect::<Result<_, CaptureError>>()?, floor))
    }

    /// The latest round of every game, without content.
    pub(super) async fn latest_names(self) -> Result<Vec<LatestName>, CaptureError> {
        let query = self.session.query(sql!("latest_by_game"), &[]);
        let rows = within(CATCH_UP_WITHIN, query).await?;
        let mut latest = Vec::with_capacity(rows.len());
        for row in &rows {
            // A round of a game whose id cannot be sent cannot be sent either.
            let Ok(game) = game_id(row)? else { continue };
            latest.push(LatestName { game, round: name(row)? });
        }
        Ok(latest)
    }

    /// The latest rounds of these games that can be sent. `None` if they have too many bytes.
    pub(super) async fn latest(
        self,
        games: &[LatestName],
        size: &mut ChunkSize,
    ) -> Result<Option<Vec<Round>>, CaptureError> {
        let names: Vec<RoundName> =
            games.iter().filter_map(|latest| latest.round.clone()).collect();
        let by_id = PreparedQuery::Unnamed(sql!("rounds_by_id").into());
        let contents = self.contents_by(&by_id).read(&names, size).await?;
        let Some(mut contents) = contents else { return Ok(None) };
        let mut latest = Vec::with_capacity(games.len());
        for LatestName { game, round } in games {
            match round.as_ref().and_then(|name| contents.remove(name)) {
                Some(Content::Round(round)) => latest.push(*round),
                // Behind a latest round that cannot be sent is one that can.
                _ => latest.extend(self.latest_of(game).await?),
            }
        }
        Ok(Some(latest))
    }

    async fn latest_of(self, game: &GameId) -> Result<Option<Round>, CaptureError> {
        let mut newest: Option<(i64, RoundId)> = None;
        for _ in 0..SEED_PAGES_MAX {
            for name in self.names_of(game, &mut newest).await? {
                let content = self.contents(std::slice::from_ref(&name)).await?.remove(&name);
                let content = content.unwrap_or(Content::Missing);
                self.count(&content, &name);
                if let Content::Round(round) = content {
                    return Ok(Some(*round));
                }
            }
            if newest.is_none() {
                break;
            }
        }
        Ok(None)
    }

    /// The newest rounds of a game after a place, which moves behind them. None is left: no place.
    async fn names_of(
        self,
        game: &GameId,
        place: &mut Option<(i64, RoundId)>,
    ) -> Result<Vec<RoundName>, CaptureError> {
        let (numbers, texts) = GameId::by_kind(std::slice::from_ref(game));
        let micros = place.as_ref().map(|(micros, _)| *micros);
        let number = place.as_ref().and_then(|(_, round)| round.as_number());
        let text = place.as_ref().and_then(|(_, round)| round.as_text());
        let parameters: [Parameter<'_>; 6] = [
            (&numbers, Type::INT8_ARRAY),
            (&texts, Type::TEXT_ARRAY),
            (&micros, Type::INT8),
            (&number, Type::INT8),
            (&text, Type::TEXT),
            (&SEED_PAGE, Type::INT8),
        ];
        let query = self.session.query(sql!("list_keys"), &parameters);
        let rows = within(CATCH_UP_WITHIN, query).await?;
        let last = rows.last().map(|row| {
            Ok::<_, CaptureError>((row.try_get::<_, i64>("finished_micros")?, round_id(row)?.ok()))
        });
        *place = match last.transpose()? {
            Some((micros, Some(round))) => Some((micros, round)),
            None | Some(_) => None,
        };
        names(&rows)
    }

    /// Rounds that finished at this moment or later, by the game's clock, in order.
    pub(super) async fn finished_since(
        self,
        micros: i64,
    ) -> Result<Vec<FinishedRound>, CaptureError> {
        self.finished(sql!("finished_since"), micros).await
    }

    /// The same of fewer rounds of each game, for a start.
    pub(super) async fn moments_since(
        self,
        micros: i64,
    ) -> Result<Vec<FinishedRound>, CaptureError> {
        self.finished(sql!("moments_since"), micros).await
    }

    async fn finished(self, query: &str, micros: i64) -> Result<Vec<FinishedRound>, CaptureError> {
        let parameters: [Parameter<'_>; 1] = [(&micros, Type::INT8)];
        let rows = within(CATCH_UP_WITHIN, self.session.query(query, &parameters)).await?;
        let found = rows.iter().filter_map(|row| finished_round(row).transpose());
        found.collect()
    }

    /// The rounds of these names that can be sent, in this order. The others are counted. `None` if
    /// they have too many bytes.
    pub(super) async fn rounds(
        self,
        names: &[RoundName],
        size: &mut ChunkSize,
    ) -> Result<Option<Vec<Round>>, CaptureError> {
        let by_id = PreparedQuery::Unnamed(sql!("rounds_by_id").into());
        let contents = self.contents_by(&by_id).read(names, size).await?;
        let Some(mut contents) = contents else { return Ok(None) };
        let mut rounds = Vec::with_capacity(names.len());
        for name in names {
            let content = contents.remove(name).unwrap_or(Content::Missing);
            self.count(&content, name);
            if let Content::Round(round) = content {
                rounds.push(*round);
            }
        }
        Ok(Some(rounds))
    }

    /// Those of these rounds that the outbox had recorded by a moment.
    pub(super) async fn recorded_by(
        self,
        moment: i64,
        ids: &[RoundId],
    ) -> Result<HashSet<RoundId>, CaptureError> {
        let (numbers, texts) = RoundId::by_kind(ids);
        let query = sql!("recorded_by");
        let parameters: [Parameter<'_>; 3] =
            [(&numbers, Type::INT8_ARRAY), (&texts, Type::TEXT_ARRAY), (&moment, Type::INT8)];
        let rows = within(CATCH_UP_WITHIN, self.session.query(query, &parameters)).await?;
        let ids = rows.iter().filter_map(|row| round_id(row).map(Result::ok).transpose());
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// The attached tables.
    pub(super) async fn tables(self) -> Result<HashMap<Attachment, String>, CaptureError> {
        let query = self.session.query(sql!("attached_tables"), &[]);
        let rows = within(ANSWER_WITHIN, query).await?;
        let table = |row: &Row| Ok((Attachment(row.try_get("id")?), row.try_get("relation")?));
        rows.iter().map(table).collect()
    }

    /// All games that can be read.
    pub(super) async fn games(self) -> Result<Vec<Game>, CaptureError> {
        let queries = SessionGames {
            session: self.session,
            keys: sql!("game_keys").into(),
            games: games::query(sql!("games"), true),
            unnamed: games::query(sql!("games"), false),
        };
        games::read(&queries, self.skipped).await
    }

    /// Counts the outbox rows, of the newest that a start looks at, that have no round to send.
    pub(super) async fn count_skipped(self, snapshot: &Snapshot) -> Result<(), CaptureError> {
        let (Some(skipped), snapshot) = (self.skipped, snapshot.to_string()) else {
            return Ok(());
        };
        let parameters: [Parameter<'_>; 2] = [(&snapshot, Type::TEXT), (&RECENT_ROWS, Type::INT8)];
        let query = self.session.query(sql!("skipped"), &parameters);
        for row in &within(CATCH_UP_WITHIN, query).await? {
            let (reason, attachment, id) = skipped_row(row)?;
            skipped.skip_again(reason, attachment, &id);
        }
        Ok(())
    }

    async fn contents(
        self,
        names: &[RoundName],
    ) -> Result<HashMap<RoundName, Content>, CaptureError> {
        let by_id = PreparedQuery::Unnamed(sql!("rounds_by_id").into());
        self.contents_by(&by_id).read_all(names).await
    }

    fn contents_by<'a>(self, query: &'a PreparedQuery) -> ContentReader<'a>
    where
        's: 'a,
    {
        ContentReader { session: self.session, query, existing: sql!("existing_rows").into() }
    }

    /// Counts a round that cannot be sent.
    pub(super) fn count(self, content: &Content, (attachment, id): &RoundName) {
        if let (Some(skipped), Some(reason)) = (self.skipped, content.skipped()) {
            skipped.skip_again(reason, *attachment, id);
        }
    }
}

/// The name in a row; none if its id cannot be sent.
fn name(row: &Row) -> Result<Option<RoundName>, CaptureError> {
    let attachment = attachment(row)?;
    Ok(round_id(row)?.ok().map(|id| (attachment, id)))
}

fn names(rows: &[Row]) -> Result<Vec<RoundName>, CaptureError> {
    rows.iter().filter_map(|row| name(row).transpose()).collect()
}

/// None if it cannot be sent.
fn finished_round(row: &Row) -> Result<Option<FinishedRound>, CaptureError> {
    let micros = row.try_get::<_, Option<i64>>("finished_micros")?;
    let Some(finished_at) = micros.and_then(FinishedAt::from_micros) else { return Ok(None) };
    let found =
        |(attachment, round)| FinishedRound { attachment, key: RoundKey { round, finished_at } };
    Ok(name(row)?.map(found))
}
