//! The dealer plays the sample games and writes their rounds, as a game's server would.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use futures_util::future::join_all;
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::games::{Draw, SampleGame};
use crate::ops::{backoff::Backoff, shutdown::Shutdown};

/// Inserts the games' rows that are missing.
const SAMPLE_GAMES: &str = include_str!("../../../sql/sample_games.sql");
/// Finds a game by its slug: games inserted by hand may have taken any id.
const INSERT_FINISHED: &str = "insert into public.rounds (game_id, finished_at, extras) \
    select id, now(), $2::jsonb from public.games where slug = $1";
const INSERT_OPEN: &str = "insert into public.rounds (game_id) \
    select id from public.games where slug = $1 returning id";
const FINISH: &str =
    "update public.rounds set finished_at = now(), extras = $2::jsonb where id = $1";

/// Plays all sample games on one database.
#[derive(Clone, Debug)]
pub(super) struct Dealer {
    pool: PgPool,
    speed: f64,
}

impl Dealer {
    /// Connects and inserts the sample games.
    pub(super) async fn open(url: &str, speed: f64) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(u32::try_from(SampleGame::ALL.len())?)
            .connect(url)
            .await?;
        let insert = sqlx::raw_sql(SAMPLE_GAMES).execute(&pool).await;
        insert.context("cannot insert the sample games")?;
        Ok(Self { pool, speed })
    }

    /// Plays until a shutdown is requested. Open rounds then stay unfinished, as in a game that
    /// stops.
    pub(super) async fn play(self, shutdown: Shutdown) {
        let dealer = Arc::new(self);
        let tables = SampleGame::ALL.map(|game| Arc::clone(&dealer).table(game));
        tokio::select! {
            () = shutdown.requested() => {}
            _ = join_all(tables) => {}
        }
        dealer.pool.close().await;
    }

    async fn table(self: Arc<Self>, game: SampleGame) {
        let mut backoff = Backoff::default();
        loop {
            match self.round(game).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    tracing::warn!(game.slug = game.slug(), %error, "cannot write a round");
                    tokio::time::sleep(backoff.delay()).await;
                }
            }
        }
    }

    async fn round(&self, game: SampleGame) -> sqlx::Result<()> {
        let Draw { extras, pause, lasts } = game.draw();
        self.wait(pause).await;
        let Some(lasts) = lasts else {
            let insert = sqlx::query(INSERT_FINISHED).bind(game.slug()).bind(extras);
            return insert.execute(&self.pool).await.map(|_| ());
        };
        let open = sqlx::query_scalar::<_, i64>(INSERT_OPEN).bind(game.slug());
        let round_id = open.fetch_one(&self.pool).await?;
        self.wait(lasts).await;
        sqlx::query(FINISH).bind(round_id).bind(extras).execute(&self.pool).await.map(|_| ())
    }

    async fn wait(&self, at_human_pace: Duration) {
        tokio::time::sleep(at_human_pace.div_f64(self.speed)).await;
    }
}
