//! The cursor against a model of the database: transactions that begin, commit, roll back,
//! listeners that are cut off, and a server that loses its last commits.

use proptest::prelude::*;

use super::*;
use crate::stream::transaction::Attachment;

#[derive(Clone, Debug)]
enum Step {
    Begin,
    /// The open transaction with this index commits.
    Commit(usize),
    RollBack(usize),
    Poll,
    /// The connection is lost, and made again.
    Reconnect,
    /// It is lost again in the catch-up, when so many rounds are on the stream.
    BreakOff(usize),
    /// A poll finds so much that it is read in pages of so many rows; with a number, the connection
    /// is lost after so many pages.
    Pages(usize, Option<usize>),
    /// Everything committed so far is flushed.
    Flush,
    /// The server loses what is not flushed, with the connection, and uses its ids again.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Begin),
        6 => (0_usize..6).prop_map(Step::Commit),
        1 => (0_usize..6).prop_map(Step::RollBack),
        3 => Just(Step::Poll),
        1 => Just(Step::Reconnect),
        1 => (0_usize..10).prop_map(Step::BreakOff),
        2 => (1_usize..5, prop::option::of(0_usize..4)).prop_map(|(n, most)| Step::Pages(n, most)),
        2 => Just(Step::Flush),
        1 => Just(Step::Crash),
    ]
}

struct Open {
    xid: u64,
    began_after: usize,
}

#[derive(Clone)]
struct Committed {
    finish: Finish,
    finished_at: FinishedAt,
    /// How many transactions had committed when this one began.
    began_after: usize,
}

impl Committed {
    fn round_key(&self) -> RoundKey {
        RoundKey { round: self.finish.round.clone(), finished_at: self.finished_at }
    }

    fn row(&self) -> OutboxKey {
        OutboxKey { finish: self.finish.clone(), at: self.finished_at.micros() }
    }
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
        self.open.push(Open { xid, began_after });
    }

    fn commit(&mut self, index: usize) {
        if index >= self.open.len() {
            return;
        }
        let open = self.open.remove(index);
        self.clock += 1;
        // Round ids are used again after a crash, as a sequence's are; moments are not.
        let round_id = RoundId::number(i64::try_from(open.xid).expect("small"));
        let finished_at = FinishedAt::from_micros(self.clock).expect("in range");
        let finish = Finish { xid: Xid(open.xid), attachment: Attachment(0), round: round_id };
        self.committed.push(Committed { finish, finished_at, began_after: open.began_after });
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
    fn poll(&mut self, database: &Database, published: &AlreadyPublished) {
        let rows = self.unseen(database);
        self.publish(&rows, published, usize::MAX);
        self.advance(database.seen());
    }

    fn advance(&mut self, seen: Seen) {
        self.cursor.advance(seen, self.position());
    }

    fn position(&self) -> Position {
        Position(self.stream.len() as u64)
    }

    /// What a poll finds.
    fn unseen(&self, database: &Database) -> Vec<Committed> {
        let saved = self.cursor.saved();
        let unseen = database.committed.iter().filter(|c| !saved.sees(c.finish.xid));
        let mut rows: Vec<_> = unseen.cloned().collect();
        rows.sort_by_key(|committed| committed.finish.clone());
        rows
    }

    /// Puts the first new rounds among these on the stream.
    fn publish(&mut self, rows: &[Committed], published: &AlreadyPublished, most: usize) {
        let end = self.stream.len().saturating_add(most);
        for row in rows {
            let key = row.row();
            let is_known = published.has_row(&key) || published.has_key(&row.round_key());
            if !is_known && self.stream.len() < end {
                self.cursor.mark_published(key, row.finished_at);
                self.stream.push(row.clone());
            }
        }
    }

    /// The same as `poll`, page by page; says whether it came to the end.
    fn pages(
        &mut self,
        database: &mut Database,
        published: &AlreadyPublished,
        size: usize,
        most: usize,
    ) -> bool {
        let (mut after, seen) = (None, database.seen());
        for _ in 0..most {
            let visible = |c: &Committed| {
                Some(&c.finish) > after.as_ref() && seen.snapshot.sees(c.finish.xid)
            };
            let mut page: Vec<_> = self.unseen(database).into_iter().filter(visible).collect();
            let is_last = page.len() < size;
            page.truncate(size);
            let Some(last) = page.last().map(|c| c.finish.xid).filter(|_| !is_last) else {
                self.publish(&page, published, usize::MAX);
                self.advance(seen);
                return true;
            };
            if page[0].finish.xid < last {
                page.retain(|c| c.finish.xid < last);
            }
            self.publish(&page, published, usize::MAX);
            after = Some(page[page.len() - 1].finish.clone());
            let now = Seen { flushed: database.seen().flushed, ..seen.clone() };
            self.cursor.advance_before(last, &now, self.position());
            self.covers_the_stream(database);
            // The game goes on meanwhile.
            database.begin();
            database.commit(0);
        }
        false
    }

    /// A replay takes from the database what `durable` sees, and from memory what came after its
    /// position: between the two nothing may be left out.
    fn covers_the_stream(&self, database: &Database) {
        let Position(position) = self.cursor.durable_position();
        let before = usize::try_from(position).expect("small");
        let is_kept = |c: &&Committed| database.committed.iter().any(|d| d.row() == c.row());
        let mut kept = self.stream[..before].iter().filter(is_kept);
        assert!(kept.all(|c| self.cursor.durable().sees(c.finish.xid)));
    }

    fn reconnect(&mut self, database: &Database) {
        let published = self.cursor.rewind();
        self.poll(database, &published);
    }
}

fn run(steps: Vec<Step>) -> (Database, Listener, Vec<Committed>) {
    let mut database = Database { next_xid: 3, next_xid_flushed: 3, ..Database::default() };
    let mut listener = Listener { cursor: Cursor::new(database.snapshot()), stream: vec![] };
    let mut lost = Vec::new();
    for step in steps {
        match step {
            Step::Begin => database.begin(),
            Step::Commit(index) => database.commit(index),
            Step::RollBack(index) => {
                if index < database.open.len() {
                    database.open.remove(index);
                }
            }
            Step::Poll => listener.poll(&database, &AlreadyPublished::default()),
            Step::Reconnect => listener.reconnect(&database),
            Step::BreakOff(most) => {
                let published = listener.cursor.rewind();
                let rows = listener.unseen(&database);
                listener.publish(&rows, &published, most);
                listener.reconnect(&database);
            }
            Step::Pages(size, most) => {
                let published = match most {
                    None => AlreadyPublished::default(),
                    Some(_) => listener.cursor.rewind(),
                };
                let most = most.unwrap_or(usize::MAX);
                if !listener.pages(&mut database, &published, size, most) {
                    listener.reconnect(&database);
                }
            }
            Step::Flush => database.flush(),
            Step::Crash => {
                lost.extend_from_slice(&database.committed[database.flushed..]);
                database.crash();
                listener.reconnect(&database);
            }
        }
    }
    listener.poll(&database, &AlreadyPublished::default());
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
