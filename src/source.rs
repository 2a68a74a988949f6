//! Capture: from the game's commit to a round on the hub, each once, whatever fails in between.
//!
//! ```text
//!             ┌──────────────── any error, or the end of the connection ───────────────┐
//!             ▼                                                                        │
//!  Connecting ──▶ Listening ──▶ CatchingUp ──▶ Live ── payload in order: publish ──────┤
//!  (10 … 100 ms)  (acknowledged) (poll from     │  └─ ring or timer: poll, publish ────┘
//!                                 `safe`)       └─ 5 ms for 1 s after activity, then 250 ms
//! ```
//!
//! NOTIFY is how word arrives at once; `datastream.outbox` is the truth. What is on the stream is
//! kept in the [`cursor`] in terms of PostgreSQL's snapshots, and every poll asks for the
//! difference. Rounds that committed late, out of id order or after a savepoint are found once.

mod catch_up;
mod company;
mod cursor;
mod details;
mod error;
mod filling;
mod inbox;
mod listener;
mod pages;
mod payload;
mod poll;
mod probe;
pub(crate) mod read_only;
mod reconnect;
mod rows;
pub(crate) mod self_test;
mod session;
mod snapshot;
mod steps;

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use tokio::sync::watch;

pub(crate) use self::error::CaptureError;
use self::{
    company::Company,
    cursor::Cursor,
    filling::Filling,
    listener::{Identity, Listening},
    probe::Probe,
    reconnect::{Linked, keep_linked},
};
use crate::{
    ops::{backoff::Backoff, phase::Phase, shutdown::Shutdown, telemetry::metrics::Metrics},
    postgres::target::PgTarget,
    stream::{games::Games, hub::Publisher, transaction::Finish},
};

/// After activity more is likely to follow, of transactions that did not ring.
const POLL_ACTIVE: Duration = Duration::from_millis(5);
/// How long after the last round the capture counts as active.
const ACTIVE_FOR: Duration = Duration::from_secs(1);
/// With nothing going on: also what notices a dead connection. 0.11 ms each.
const POLL_IDLE: Duration = Duration::from_millis(250);
/// The same where no table rings at all (capture mode `poll`): 0.3 % of a core.
const POLL_UNRUNG: Duration = Duration::from_millis(20);
/// How far back a database with another history is searched for rounds not streamed yet. As much
/// as reconciliation looks back.
const OVERLAP_MICROS: i64 = 10 * 60 * 1_000_000;

/// How soon it is noticed that another capture mode was chosen: one query of 0.1 ms.
const MODE_EVERY: Duration = Duration::from_secs(5);

/// Whether payloads are believed before the outbox has confirmed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A payload goes out when it arrives; the poll that follows confirms it.
    Payloads,
    /// A payload is but a ring; what goes out is read from the outbox.
    Outbox,
}

/// Decodes what may have arrived on the channel, to see that it can be done.
pub fn decode_payload(text: &str) {
    let _ = payload::Notification::decode(text);
}

/// What a capture is made of.
#[derive(Debug)]
pub struct Parts {
    /// The database to listen to.
    pub listen: PgTarget,
    /// The database that queries go to; where a probe is sent from.
    pub queries: PgTarget,
    /// Rounds of each game to fill the memory with at start.
    pub history: i64,
    /// Whether payloads are believed at first.
    pub trust: Trust,
    /// Where rounds go.
    pub publisher: Publisher,
    /// The directory of games, for payloads.
    pub games: Games,
    /// Where to count.
    pub metrics: Metrics,
    /// Who stops it.
    pub shutdown: Shutdown,
}

/// The one task that puts rounds on the stream.
#[derive(Debug)]
pub struct Capture {
    parts: Parts,
    phase: watch::Sender<Phase>,
    /// `None` until the memory has been filled.
    progress: Option<Progress>,
    /// What was read for that so far.
    filling: Option<Filling>,
    company: Company,
    /// Payloads found to be forged whose rounds the hub has still to forget.
    forged: Vec<Finish>,
    last_activity: Instant,
    /// When the last poll began that was read to its end.
    looked: Instant,
    /// Whether this poll has read the games again for one that it did not know.
    has_read_games: bool,
}

/// How far this process has come, and on which database.
#[derive(Debug)]
struct Progress {
    cursor: Cursor,
    identity: Identity,
    /// When the database was last heard, by its own clock, in microseconds since the epoch.
    last_contact: i64,
}

impl Capture {
    /// Makes a capture, and the channel that tells where it stands.
    pub fn new(parts: Parts) -> (Self, watch::Receiver<Phase>) {
        let (phase, watched) = watch::channel(Phase::Connecting { problem: None });
        let last_activity = Instant::now();
        let (company, forged) = (Company::new(), Vec::new());
        let capture = Self {
            parts,
            phase,
            progress: None,
            filling: None,
            company,
            forged,
            last_activity,
            looked: last_activity,
            has_read_games: false,
        };
        (capture, watched)
    }

    /// Captures until the shutdown; an error is one that waiting cannot mend, met before the
    /// stream was ever live.
    pub async fn run(mut self) -> Result<(), CaptureError> {
        let shutdown = self.parts.shutdown.clone();
        keep_linked(&mut self, &shutdown).await
    }

    /// From LISTEN to the end of the connection.
    async fn listen(&mut self, backoff: &mut Backoff) -> Result<Infallible, CaptureError> {
        let Parts { listen, shutdown, .. } = &self.parts;
        let listening = Listening::start(listen, self.company.node, shutdown).await?;
        self.parts.metrics.listener_connects_total.inc();
        self.phase.send_replace(Phase::CatchingUp);
        self.catch_up(&listening).await?;
        self.mind_company(&listening).await?;
        self.parts.metrics.listener_connected.set(1);
        self.phase.send_replace(Phase::Live { since: Instant::now() });
        tracing::info!(
            timeline = listening.identity.timeline(),
            "live: caught up with the database"
        );
        backoff.reset();
        self.live(&listening).await
    }

    async fn live(&mut self, listening: &Listening) -> Result<Infallible, CaptureError> {
        let mut probe = listening.notifies.then(|| Probe::start(&self.parts, listening));
        let mut rung = listening.notifies;
        let mut asked = Instant::now();
        loop {
            tokio::select! {
                () = listening.inbox().arrival() => {}
                () = tokio::time::sleep(self.pause(rung)) => {}
            }
            if listening.inbox().is_ended() {
                return Err(CaptureError::Closed);
            }
            // First, so that who has come knows of us before it has what we send now.
            self.mind_company(listening).await?;
            self.hear(listening);
            self.poll(listening).await?;
            self.take_back_forged(listening).await?;
            if asked.elapsed() > MODE_EVERY {
                self.follow_mode(listening, &mut probe).await?;
                asked = Instant::now();
            }
            rung = probe.as_mut().is_some_and(|probe| {
                probe.check(listening.inbox(), &self.parts.metrics) != probe::State::Deaf
            });
        }
    }

    /// Looks whether tables notify that did not, or the other way round.
    async fn follow_mode(
        &self,
        listening: &Listening,
        probe: &mut Option<Probe>,
    ) -> Result<(), CaptureError> {
        let notifies = listening.notifies().await?;
        if notifies != probe.is_some() {
            tracing::info!(notifies, "another capture mode was chosen");
            self.parts.metrics.listener_deaf.set(0);
            *probe = notifies.then(|| Probe::start(&self.parts, listening));
        }
        Ok(())
    }

    /// How long to wait for a notification before asking without one.
    fn pause(&self, rung: bool) -> Duration {
        if self.last_activity.elapsed() < ACTIVE_FOR {
            POLL_ACTIVE
        } else if rung {
            POLL_IDLE
        } else {
            POLL_UNRUNG
        }
    }
}

impl Linked for Capture {
    async fn session(&mut self, backoff: &mut Backoff) -> Result<Infallible, CaptureError> {
        let ended = self.listen(backoff).await;
        self.parts.metrics.listener_connected.set(0);
        ended
    }

    fn has_begun(&self) -> bool {
        self.progress.is_some()
    }

    fn phase(&self) -> &watch::Sender<Phase> {
        &self.phase
    }
}
