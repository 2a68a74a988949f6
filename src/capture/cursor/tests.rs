//! The cursor against a model of the database: transactions that begin, ring, commit, roll back,
//! listeners that are cut off, and a server that loses its last commits.

use proptest::prelude::*;

use super::*;
use crate::round::GameId;

#[derive(Clone, Debug)]
enum Step {
    Begin,
    /// The open transaction with this index commits; `true`: its payload is heard.
    Commit(usize, bool),
    RollBack(usize),
    Poll,
    /// The connection is lost, and made again.
    Reconnect,
    /// It is lost again in the catch-up, when so many rounds are on the stream.
    BreakOff(usize),
    /// Everything committed so far is flushed.
    Flush,
    /// The server loses what is not flushed, with the connection, and uses its ids again.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Begin),
        6 => (0_usize..6, any::<bool>()).prop_map(|(index, heard)| Step::Commit(index, heard)),
        1 => (0_usize..6).prop_map(Step::RollBack),
        3 => Just(Step::Poll),
        1 => Just(Step::Reconnect),
        1 => (0_usize..10).prop_map(Step::BreakOff),
        2 => Just(Step::Flush),
        1 => Just(Step::Crash),
    ]
}

struct Open {
    xid: u64,
    began_after: usize,
    snapshot: Snapshot,
}

#[derive(Clone)]
struct Committed {
    finish: Finish,
    finished_at: FinishedAt,
    /// How many transactions had committed when this one began.
    began_after: usize,
}

/// PostgreSQL, as far as the cursor sees it.
#[derive(Default)]
struct Database {
    next_xid: u64,
    clock: i64,
    open: Vec<Open>,
    committed: Vec<Committed>,
    flushed: usize,
    next_xid_flushed: u64,
}

impl Database {
    fn snapshot(&self) -> Snapshot {
        let mut running: Vec<u64> = self.open.iter().map(|open| open.xid).collect();
        running.sort_unstable();
        let xmax = self.next_xid;
        let xmin = running.first().copied().unwrap_or(xmax);
        let running: Vec<String> = running.iter().map(u64::to_string).collect();
        format!("{xmin}:{xmax}:{}", running.join(",")).parse().expect("a snapshot")
    }

    fn begin(&mut self) {
        let (xid, began_after) = (self.next_xid, self.committed.len());
        self.next_xid += 1;
        self.open.push(Open { xid, began_after, snapshot: self.snapshot() });
        let snapshot = self.snapshot();
        self.open
            .iter_mut()
            .filter(|open| open.xid == xid)
            .for_each(|open| open.snapshot = snapshot.clone());
    }

    fn commit(&mut self, index: usize) -> Option<Payload> {
        let open = (index < self.open.len()).then(|| self.open.remove(index))?;
        self.clock += 1;
        // Round ids are used again after a crash, as a sequence's are; moments are not.
        let round_id = RoundId(i64::try_from(open.xid).expect("small"));
        let finished_at = FinishedAt::from_micros(self.clock).expect("in range");
        let finish = (Xid(open.xid), round_id);
        self.committed.push(Committed { finish, finished_at, began_after: open.began_after });
        Some(Payload {
            xid: finish.0,
            snapshot: open.snapshot,
            round_id,
            game_id: GameId(1),
            finished_at,
            extras: "{}".into(),
        })
    }

    fn flush(&mut self) {
        (self.flushed, self.next_xid_flushed) = (self.committed.len(), self.next_xid);
    }

    fn crash(&mut self) {
        self.open.clear();
        self.committed.truncate(self.flushed);
        // Ids that no flushed record mentions are handed out again.
        self.next_xid = self.next_xid_flushed.max(3);
    }

    fn seen(&self) -> Seen {
        let lsn = |committed: usize| Lsn(i64::try_from(committed).expect("small"));
        let inserted = self.committed.len() + usize::try_from(self.next_xid).expect("small");
        let flushed = self.flushed + usize::try_from(self.next_xid_flushed).expect("small");
        Seen { snapshot: self.snapshot(), inserted: lsn(inserted), flushed: lsn(flushed) }
    }
}

/// What the capture does, without the network.
struct Listener {
    cursor: Cursor,
    stream: Vec<Committed>,
}

impl Listener {
    fn hear(&mut self, payload: &Payload, began_after: usize) {
        if self.cursor.judge(payload) == Verdict::Now {
            self.cursor.delivered_by_payload(payload, Instant::now());
            let finish = (payload.xid, payload.round_id);
            self.stream.push(Committed { finish, finished_at: payload.finished_at, began_after });
        }
    }

    fn poll(&mut self, database: &Database, given: &Given) {
        let rows = self.publish(database, given, usize::MAX);
        let finishes = rows.iter().map(|row| (row.finish, row.finished_at.micros())).collect();
        let unconfirmed =
            self.cursor.advance(database.seen(), &finishes, Position(0), Instant::now());
        assert_eq!(unconfirmed, [], "every payload of the trigger is confirmed");
    }

    /// Puts the first new rounds that a poll finds on the stream; returns all that it finds.
    fn publish(&mut self, database: &Database, given: &Given, most: usize) -> Vec<Committed> {
        let saved = self.cursor.saved().clone();
        let mut rows: Vec<_> =
            database.committed.iter().filter(|c| !saved.sees(c.finish.0)).cloned().collect();
        rows.sort_by_key(|committed| committed.finish);
        let end = self.stream.len().saturating_add(most);
        for row in &rows {
            let recorded = Recorded { finish: row.finish, at: row.finished_at.micros() };
            let is_given = given.has(recorded) || given.has_moment((row.finish.1, row.finished_at));
            if !self.cursor.knows(row.finish) && !is_given && self.stream.len() < end {
                self.cursor.delivered_by_poll(recorded, row.finished_at);
                self.stream.push(row.clone());
            }
        }
        rows
    }

    fn reconnect(&mut self, database: &Database) {
        let given = self.cursor.rewind();
        self.poll(database, &given);
    }
}

fn run(steps: Vec<Step>) -> (Database, Listener, Vec<Committed>) {
    let mut database = Database { next_xid: 3, next_xid_flushed: 3, ..Database::default() };
    let mut listener = Listener { cursor: Cursor::new(database.snapshot()), stream: vec![] };
    let mut lost = Vec::new();
    for step in steps {
        match step {
            Step::Begin => database.begin(),
            Step::Commit(index, heard) => {
                if let Some(payload) = database.commit(index)
                    && heard
                {
                    let began_after = database.committed.last().map_or(0, |c| c.began_after);
                    listener.hear(&payload, began_after);
                }
            }
            Step::RollBack(index) => {
                if index < database.open.len() {
                    database.open.remove(index);
                }
            }
            Step::Poll => listener.poll(&database, &Given::default()),
            Step::Reconnect => listener.reconnect(&database),
            Step::BreakOff(most) => {
                let given = listener.cursor.rewind();
                listener.publish(&database, &given, most);
                listener.reconnect(&database);
            }
            Step::Flush => database.flush(),
            Step::Crash => {
                lost.extend_from_slice(&database.committed[database.flushed..]);
                database.crash();
                listener.reconnect(&database);
            }
        }
    }
    listener.poll(&database, &Given::default());
    (database, listener, lost)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn each_committed_round_is_streamed_once_and_nothing_else(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let (database, listener, lost) = run(steps);
        let moments = |rounds: &[Committed]| {
            let mut moments: Vec<_> = rounds.iter().map(|c| c.finished_at).collect();
            moments.sort_unstable();
            moments
        };
        // What a crash of the server took back may have been streamed before: a ghost of the
        // database's making, once.
        let mut kept = listener.stream.clone();
        kept.retain(|c| !lost.iter().any(|lost| lost.finished_at == c.finished_at));
        prop_assert_eq!(moments(&kept), moments(&database.committed));
        let mut all = moments(&listener.stream);
        all.dedup();
        prop_assert_eq!(all.len(), listener.stream.len());
    }

    #[test]
    fn a_round_comes_after_all_that_committed_before_its_transaction_began(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let steps = steps.into_iter().filter(|step| !matches!(step, Step::Crash)).collect();
        let (database, listener, _) = run(steps);
        let place = |wanted: &Committed| {
            listener.stream.iter().position(|c| c.finished_at == wanted.finished_at)
        };
        for round in &database.committed {
            for earlier in &database.committed[..round.began_after] {
                prop_assert!(place(earlier) < place(round));
            }
        }
    }
}

#[test]
fn a_payload_that_was_left_to_the_poll_is_to_be_confirmed_as_well() {
    let database = Database { next_xid: 10, ..Database::default() };
    let mut cursor = Cursor::new(database.snapshot());
    let payload = |xid| Payload {
        xid: Xid(xid),
        snapshot: database.snapshot(),
        round_id: RoundId(1),
        game_id: GameId(1),
        finished_at: FinishedAt::from_micros(0).expect("in range"),
        extras: "{}".into(),
    };
    let now = Instant::now();
    cursor.claimed(&payload(11), now);
    cursor.claimed(&payload(12), now);
    assert_eq!(
        cursor.advance(
            database.seen(),
            &HashMap::from([((Xid(11), RoundId(1)), 0)]),
            Position(0),
            now
        ),
        []
    );
    let unconfirmed =
        cursor.advance(database.seen(), &HashMap::new(), Position(0), now + CONFIRM_WITHIN * 2);
    assert_eq!(unconfirmed, [(Xid(12), RoundId(1))]);
}

#[test]
fn a_payload_that_the_outbox_does_not_confirm_is_told_after_a_second() {
    let database = Database { next_xid: 10, ..Database::default() };
    let mut cursor = Cursor::new(database.snapshot());
    let forged = Payload {
        xid: Xid(11),
        snapshot: database.snapshot(),
        round_id: RoundId(1),
        game_id: GameId(1),
        finished_at: FinishedAt::from_micros(0).expect("in range"),
        extras: "{}".into(),
    };
    assert_eq!(cursor.judge(&forged), Verdict::Now);
    let now = Instant::now();
    cursor.delivered_by_payload(&forged, now);
    assert_eq!(cursor.advance(database.seen(), &HashMap::new(), Position(0), now), []);
    let later = now + CONFIRM_WITHIN * 2;
    let unconfirmed = cursor.advance(database.seen(), &HashMap::new(), Position(0), later);
    assert_eq!(unconfirmed, [(Xid(11), RoundId(1))]);
    assert_eq!(cursor.advance(database.seen(), &HashMap::new(), Position(0), later), []);
}

#[test]
fn what_no_rewind_needs_is_remembered_up_to_the_bound() {
    let database = Database { next_xid: 10, ..Database::default() };
    let mut cursor = Cursor::new(database.snapshot());
    let rounds = i64::try_from(LATELY_MAX).expect("small") * 3;
    for number in 0..rounds {
        let finish = (Xid(11), RoundId(number));
        let at = FinishedAt::from_micros(number).expect("in range");
        cursor.delivered_by_poll(Recorded { finish, at: number }, at);
    }
    assert_eq!(cursor.rewind().len(), 3 * LATELY_MAX, "of a catch-up all");
    let seen = Seen { flushed: Lsn(100), ..database.seen() };
    cursor.advance(seen, &HashMap::new(), Position(0), Instant::now());
    assert_eq!(cursor.rewind().len(), 0);
    assert_eq!(cursor.start_over(database.snapshot()).len(), LATELY_MAX);
}

#[test]
fn a_replay_ends_where_no_crash_takes_a_transaction_id_back() {
    let database = Database { next_xid: 10, ..Database::default() };
    let mut cursor = Cursor::new(database.snapshot());
    cursor.begins_at(Position(3));
    let polled = |next_xid, inserted, flushed| Seen {
        snapshot: Database { next_xid, ..Database::default() }.snapshot(),
        inserted: Lsn(inserted),
        flushed: Lsn(flushed),
    };
    cursor.advance(polled(20, 7, 6), &HashMap::new(), Position(5), Instant::now());
    assert_eq!((cursor.safe_position(), cursor.safe().sees(Xid(15))), (Position(3), false));
    cursor.advance(polled(30, 9, 7), &HashMap::new(), Position(8), Instant::now());
    assert_eq!((cursor.safe_position(), cursor.safe().sees(Xid(15))), (Position(5), true));
    assert!(!cursor.safe().sees(Xid(25)));
}

#[test]
fn what_a_payload_brought_is_told_by_its_row_once_a_poll_has_confirmed_it() {
    let database = Database { next_xid: 10, ..Database::default() };
    let mut cursor = Cursor::new(database.snapshot());
    let payload = Payload {
        xid: Xid(11),
        snapshot: database.snapshot(),
        round_id: RoundId(1),
        game_id: GameId(1),
        finished_at: FinishedAt::from_micros(0).expect("in range"),
        extras: "{}".into(),
    };
    let recorded = Recorded { finish: (Xid(11), RoundId(1)), at: 7 };
    let confirmed = HashMap::from([(recorded.finish, recorded.at)]);
    cursor.delivered_by_payload(&payload, Instant::now());
    cursor.advance(database.seen(), &confirmed, Position(1), Instant::now());
    assert!(cursor.rewind().has(recorded), "whatever its moment has become");
    assert_eq!(cursor.landmark(), None, "a crash may take it back");
    let flushed = Seen { flushed: Lsn(100), ..database.seen() };
    cursor.delivered_by_payload(&payload, Instant::now());
    cursor.advance(flushed, &confirmed, Position(1), Instant::now());
    assert_eq!(cursor.landmark(), Some(recorded));
}
