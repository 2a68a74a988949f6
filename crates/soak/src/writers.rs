//! Writers that finish rounds in every way that a game may.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::transactions::TransactionLog;

/// The sample games.
pub(crate) const GAMES: [&str; 4] = ["crash", "slot", "double", "wall-street"];
/// Concurrent writers.
pub(crate) const WRITERS: u64 = 8;

const INSERT: &str = "insert into rounds (game_id, finished_at, extras) \
    select id, clock_timestamp(), $2::jsonb from games where slug = $1";
const OPEN: &str = "insert into rounds (game_id) select id from games where slug = $1 returning id";
const FINISH: &str =
    "update rounds set finished_at = clock_timestamp(), extras = $2::jsonb where id = $1";
const BULK: &str = "insert into rounds (game_id, finished_at, extras) \
    select id, clock_timestamp(), jsonb_build_object('tx', $2::bigint, 'n', n) \
    from games, generate_series(0, $3::bigint) n where slug = $1";
const TOUCH: &str = "update rounds set extras = extras || '{\"touched\": true}' \
    where id = (select max(id) from rounds where finished_at is not null)";

/// A writer with a direct connection to PostgreSQL.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) url: String,
    pub(crate) tx_log: Arc<TransactionLog>,
    pub(crate) rng: Rng,
    pub(crate) every: Duration,
}

/// The intended end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    Commit,
    RollBack,
}

/// A transaction in progress.
struct RunningTransaction<'a> {
    db: &'a mut PgConnection,
    rng: &'a mut Rng,
    tx: usize,
    /// Number of rounds so far.
    n: u32,
}

impl Writer {
    /// Writes until the task is aborted. Expects outages of PostgreSQL, but records a refused write.
    pub(crate) async fn run(mut self) {
        loop {
            let Ok(mut db) = PgConnection::connect(&self.url).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let error = loop {
                if let Err(error) = self.transaction(&mut db).await {
                    break error;
                }
                let pause = self.every.mul_f64(2.0 * self.rng.f64());
                tokio::time::sleep(pause).await;
            };
            if is_refusal(&error) {
                self.tx_log.refused(error.to_string());
            }
        }
    }

    async fn transaction(&mut self, db: &mut PgConnection) -> sqlx::Result<()> {
        let tx = self.tx_log.begin();
        let mut transaction = RunningTransaction { db, rng: &mut self.rng, tx, n: 0 };
        match transaction.run().await? {
            Intent::Commit => self.tx_log.committed(tx),
            Intent::RollBack => self.tx_log.rolled_back(tx),
        }
        Ok(())
    }
}

/// Whether PostgreSQL refused the write itself, for example because of the trigger. Guarantee: a
/// game's INSERT never fails because of this program.
fn is_refusal(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if !is_outage(error.code().as_deref()))
}

/// Whether this SQLSTATE means that the server or the connection failed (classes 57 and 08), or that
/// two transactions conflicted (40001, 40P01), which any game must expect.
fn is_outage(code: Option<&str>) -> bool {
    code.is_some_and(|code| {
        code.starts_with("57") || code.starts_with("08") || ["40001", "40P01"].contains(&code)
    })
}

impl RunningTransaction<'_> {
    async fn run(&mut self) -> sqlx::Result<Intent> {
        match self.rng.u8(..20) {
            // One statement, no `begin`.
            0..6 => return self.insert().await.map(|()| Intent::Commit),
            6 => return self.bulk().await.map(|()| Intent::Commit),
            7 => return self.touch().await.map(|()| Intent::Commit),
            _ => {}
        }
        self.begin().await?;
        let intent = match self.rng.u8(..12) {
            0..2 => self.several().await?,
            2..4 => self.savepoints().await?,
            4..6 => self.updates().await?,
            6..8 => self.late().await?,
            8 => self.mixed().await?,
            9 => self.bulk().await.map(|()| Intent::Commit)?,
            _ => self.several().await.map(|_| Intent::RollBack)?,
        };
        self.execute(if intent == Intent::Commit { "commit" } else { "rollback" }).await?;
        Ok(intent)
    }

    async fn begin(&mut self) -> sqlx::Result<()> {
        let level = match self.rng.u8(..10) {
            0 => "begin isolation level repeatable read",
            _ => "begin",
        };
        self.execute(level).await
    }

    async fn several(&mut self) -> sqlx::Result<Intent> {
        for _ in 0..self.rng.u8(1..4) {
            self.insert().await?;
        }
        Ok(Intent::Commit)
    }

    async fn savepoints(&mut self) -> sqlx::Result<Intent> {
        self.execute("savepoint a").await?;
        self.insert().await?;
        self.execute("savepoint b").await?;
        self.insert().await?;
        let back = if self.rng.bool() { "rollback to b" } else { "rollback to a" };
        self.execute(back).await?;
        if self.rng.bool() {
            self.insert().await?;
        }
        Ok(Intent::Commit)
    }

    /// Finishes open rounds, perhaps in descending order of their ids.
    async fn updates(&mut self) -> sqlx::Result<Intent> {
        let (first, second) = (self.open().await?, self.open().await?);
        let mut rounds = [first, second];
        if self.rng.bool() {
            rounds.reverse();
        }
        for round in rounds {
            self.finish(round).await?;
        }
        Ok(Intent::Commit)
    }

    async fn late(&mut self) -> sqlx::Result<Intent> {
        self.insert().await?;
        tokio::time::sleep(Duration::from_millis(self.rng.u64(..60))).await;
        Ok(Intent::Commit)
    }

    async fn mixed(&mut self) -> sqlx::Result<Intent> {
        let open = self.open().await?;
        self.insert().await?;
        self.finish(open).await?;
        self.bulk().await?;
        Ok(Intent::Commit)
    }

    async fn insert(&mut self) -> sqlx::Result<()> {
        let extras = self.extras();
        let query = sqlx::query(INSERT).bind(self.game()).bind(extras);
        query.execute(&mut *self.db).await.map(|_| ())
    }

    async fn open(&mut self) -> sqlx::Result<i64> {
        sqlx::query_scalar(OPEN).bind(self.game()).fetch_one(&mut *self.db).await
    }

    async fn finish(&mut self, round: i64) -> sqlx::Result<()> {
        let extras = self.extras();
        sqlx::query(FINISH).bind(round).bind(extras).execute(&mut *self.db).await.map(|_| ())
    }

    async fn bulk(&mut self) -> sqlx::Result<()> {
        let rounds = self.rng.i64(1..20);
        let tx = i64::try_from(self.tx).unwrap_or_default();
        // Bulk rounds are numbered from 0; after other rounds they need different numbers.
        let query =
            if self.n == 0 { BULK.to_owned() } else { BULK.replace("'n', n", "'n', n + 1000") };
        let query = sqlx::query(AssertSqlSafe(query)).bind(self.game()).bind(tx).bind(rounds);
        query.execute(&mut *self.db).await.map(|_| ())
    }

    async fn touch(&mut self) -> sqlx::Result<()> {
        self.execute(TOUCH).await
    }

    async fn execute(&mut self, sql: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(sql).execute(&mut *self.db).await.map(|_| ())
    }

    fn game(&mut self) -> &'static str {
        self.rng.choice(GAMES).unwrap_or("crash")
    }

    fn extras(&mut self) -> String {
        let n = self.n;
        self.n += 1;
        let pad = match self.rng.u8(..40) {
            0 => "é".repeat(10_000),
            1 => "é".repeat(self.rng.usize(3_700..4_100)),
            2..8 => "x".repeat(self.rng.usize(..500)),
            _ => String::new(),
        };
        format!(r#"{{"tx": {}, "n": {n}, "pad": "{pad}"}}"#, self.tx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_write_is_distinguished_from_an_outage() {
        for outage in ["57P01", "57P02", "57P03", "57014", "08006", "40001", "40P01"] {
            assert!(is_outage(Some(outage)), "{outage}");
        }
        // A trigger that raises, a full notify queue, a dropped column, revoked privileges.
        for refusal in
            [Some("P0001"), Some("54000"), Some("42703"), Some("42501"), Some("40002"), None]
        {
            assert!(!is_outage(refusal), "{refusal:?}");
        }
        assert!(!is_refusal(&sqlx::Error::PoolTimedOut));
    }
}
