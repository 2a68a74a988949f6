//! The judge: what each subscriber was given, against the table.

use std::collections::{HashMap, HashSet};

use crate::{
    args::Args,
    ledger::{Ending, Token, Transaction},
    stage::HISTORY,
    subscribers::{Habit, Subscriber, Transport, Visit},
};

/// A finished round as the table has it at the end.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) game: String,
    pub(crate) token: Token,
}

/// What is known at the end.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) rows: Vec<Row>,
    present: HashSet<Token>,
    transactions: Vec<Transaction>,
    /// When rounds of a game were committed, in order.
    commits: HashMap<String, Vec<u64>>,
    /// Whether PostgreSQL may have taken commits back.
    lossy: bool,
    /// Whether there were several nodes: then none can tell what another delivered.
    shared: bool,
    /// Ids that PostgreSQL gave to several rounds.
    reused: HashSet<i64>,
    /// When each process of the server was first seen.
    starts: HashMap<u32, u64>,
    /// The places of rounds in the stream of each process, as a steady subscriber to everything
    /// saw it.
    order: HashMap<u32, HashMap<Token, usize>>,
}

/// What a subscriber's diary says.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) visits: usize,
    pub(crate) resumes: usize,
    pub(crate) gaps: usize,
    pub(crate) received: usize,
    pub(crate) lost: usize,
    pub(crate) twice: usize,
    /// Repeats that the contract allows: after a restart of the server, or beyond its memory.
    pub(crate) repeats: usize,
    pub(crate) ghosts: usize,
    /// Streamed, then lost by PostgreSQL itself.
    pub(crate) taken_back: usize,
    pub(crate) disorder: usize,
    pub(crate) details: Vec<String>,
}

/// What a subscriber has since its stream started over.
struct Segment {
    since: u64,
    known: HashSet<Token>,
    /// In the order in which they first came.
    stream: Vec<(i64, Token)>,
}

impl Truth {
    pub(crate) fn new(
        rows: Vec<Row>,
        transactions: Vec<Transaction>,
        subscribers: &[Subscriber],
        args: &Args,
    ) -> Self {
        let present = rows.iter().map(|row| row.token).collect();
        let mut commits: HashMap<String, Vec<u64>> = HashMap::new();
        for row in &rows {
            let at = settled(&transactions, row.token);
            commits.entry(row.game.clone()).or_default().push(at);
        }
        commits.values_mut().for_each(|all| all.sort_unstable());
        let (reused, order) = (reused(subscribers), HashMap::new());
        let starts = starts(subscribers);
        let (lossy, shared) = (args.lossy, args.nodes > 1);
        let mut truth =
            Self { rows, present, transactions, commits, lossy, shared, reused, starts, order };
        for one in subscribers.iter().filter(|one| one.sees_all()) {
            for (process, places) in truth.places(one) {
                truth.order.entry(process).or_insert(places);
            }
        }
        truth
    }

    /// Judges a subscriber.
    pub(crate) fn judge(&self, subscriber: &Subscriber) -> Verdict {
        let visits = visits(subscriber);
        let mut verdict = Verdict { visits: visits.len(), ..Verdict::default() };
        let games = subscriber.selection.games;
        let mut segment: Option<Segment> = None;
        for (index, visit) in visits.iter().enumerate() {
            verdict.resumes += usize::from(visit.after.is_some());
            verdict.gaps += usize::from(visit.gap);
            // A session that ended before its first replay was promised nothing.
            if visit.starts_over
                && let Some(over) = segment.take()
                && subscriber.transport != Transport::WebTransport
            {
                self.completed(&over, games, false, &mut verdict);
                self.ordered(&over, &mut verdict);
            }
            let start =
                || Segment { since: visit.connected, known: HashSet::new(), stream: Vec::new() };
            let segment = segment.get_or_insert_with(start);
            let before = visits[..index].iter().rev().find(|visit| !visit.rounds.is_empty());
            let may_repeat = match subscriber.transport {
                // It names an older round than its last.
                Transport::WebTransport => visit.after.is_some(),
                _ => self.may_repeat(visit, before, games),
            };
            self.visit(visit, may_repeat, segment, &mut verdict);
        }
        if let Some(last) = segment {
            self.completed(&last, games, true, &mut verdict);
            if subscriber.transport != Transport::WebTransport {
                self.ordered(&last, &mut verdict);
            }
        }
        // Datagrams overtake each other.
        if subscriber.habit == Habit::Steady && subscriber.transport != Transport::WebTransport {
            self.same_order(subscriber, &mut verdict);
        }
        verdict
    }

    fn visit(&self, visit: &Visit, may_repeat: bool, segment: &mut Segment, verdict: &mut Verdict) {
        let mut here = HashSet::new();
        for &(round_id, token) in &visit.rounds {
            verdict.received += 1;
            // No connection gets a round again, whatever it resumed from.
            let may_repeat = may_repeat && !here.contains(&token);
            here.insert(token);
            if !self.present.contains(&token) {
                self.absent(round_id, token, verdict);
            } else if segment.known.insert(token) {
                segment.stream.push((round_id, token));
            } else if may_repeat {
                verdict.repeats += 1;
            } else {
                verdict.twice += 1;
                self.tell(verdict, "twice", round_id, token, visit);
            }
        }
    }

    /// Whether the server may have answered this resume from another memory than that which
    /// delivered the named round live: of another process, of what was before the process, or of
    /// the database. Where others stream the same database, it always may.
    fn may_repeat(&self, visit: &Visit, before: Option<&Visit>, games: &[&str]) -> bool {
        let Some((named_id, named)) = visit.after else { return false };
        let another = before.is_some_and(|before| before.process != visit.process);
        let from = self.transactions.get(named.tx).map_or(0, |tx| tx.began);
        let beyond = games.iter().any(|game| {
            let commits = self.commits.get(*game).map_or(&[][..], Vec::as_slice);
            let later = |at| commits.partition_point(|commit| *commit <= at);
            later(visit.connected) - later(from).min(later(visit.connected)) > HISTORY * 3 / 4
        });
        let start = self.starts.get(&visit.process).copied().unwrap_or(0);
        self.shared || another || from < start || beyond || self.reused.contains(&named_id)
    }

    fn absent(&self, round_id: i64, token: Token, verdict: &mut Verdict) {
        let ending = self.transactions.get(token.tx).map(|tx| tx.ending);
        if self.lossy && matches!(ending, Some(Ending::Committed(_) | Ending::Unknown)) {
            verdict.taken_back += 1;
        } else {
            verdict.ghosts += 1;
            verdict.details.push(format!("ghost: round {round_id}, {token:?}, {ending:?}"));
        }
    }

    /// Checks what should have come since the stream started over; at the end that is all, before
    /// that all that was committed before the last round's transaction began.
    fn completed(&self, segment: &Segment, games: &[&str], end: bool, verdict: &mut Verdict) {
        let began = |token: Token| self.transactions.get(token.tx).map_or(u64::MAX, |tx| tx.began);
        let newest = segment.stream.iter().map(|(_, token)| began(*token)).max().unwrap_or(0);
        let limit = if end { u64::MAX } else { newest };
        for row in self.rows.iter().filter(|row| games.contains(&row.game.as_str())) {
            let due = began(row.token) > segment.since
                && (end || self.committed(row.token).is_some_and(|at| at < limit));
            if due && !segment.known.contains(&row.token) {
                verdict.lost += 1;
                let tx = self.transactions.get(row.token.tx);
                verdict.details.push(format!("lost: {row:?} of {tx:?}"));
            }
        }
    }

    /// A round whose transaction began after another's commit comes after it; rounds of one
    /// transaction come by id.
    fn ordered(&self, segment: &Segment, verdict: &mut Verdict) {
        let mut earliest = u64::MAX;
        let mut last_of: HashMap<usize, i64> = HashMap::new();
        for &(round_id, token) in segment.stream.iter().rev() {
            let began = self.transactions.get(token.tx).map_or(0, |tx| tx.began);
            if began > earliest {
                verdict.disorder += 1;
                verdict.details.push(format!("order: {round_id} {token:?} came too early"));
            }
            earliest = earliest.min(self.committed(token).unwrap_or(u64::MAX));
            let next = last_of.insert(token.tx, round_id);
            if next.is_some_and(|next| next < round_id) {
                verdict.disorder += 1;
                verdict.details.push(format!("order: {round_id} {token:?} before {next:?}"));
            }
        }
    }

    /// All subscribers of a process see one order.
    fn same_order(&self, subscriber: &Subscriber, verdict: &mut Verdict) {
        for (process, places) in &self.places(subscriber) {
            let Some(reference) = self.order.get(process) else { continue };
            let mut mine: Vec<_> = places.iter().map(|(token, place)| (*place, *token)).collect();
            mine.sort_unstable_by_key(|(place, _)| *place);
            let theirs = mine.iter().filter_map(|(_, token)| reference.get(token));
            let theirs: Vec<_> = theirs.collect();
            let wrong = theirs.windows(2).filter(|pair| pair[0] > pair[1]).count();
            if wrong > 0 {
                verdict.disorder += wrong;
                verdict.details.push(format!("order: {wrong} unlike others of process {process}"));
            }
        }
    }

    /// The live rounds of each process, in the order in which this subscriber got them.
    fn places(&self, subscriber: &Subscriber) -> HashMap<u32, HashMap<Token, usize>> {
        let mut all: HashMap<u32, HashMap<Token, usize>> = HashMap::new();
        let mut since: HashMap<u32, u64> = HashMap::new();
        for visit in visits(subscriber) {
            let since = *since.entry(visit.process).or_insert(visit.connected);
            let places = all.entry(visit.process).or_default();
            for (_, token) in visit.rounds {
                if self.transactions.get(token.tx).is_some_and(|tx| tx.began > since) {
                    let place = places.len();
                    places.entry(token).or_insert(place);
                }
            }
        }
        all
    }

    fn committed(&self, token: Token) -> Option<u64> {
        match self.transactions.get(token.tx)?.ending {
            Ending::Committed(at) => Some(at),
            _ => None,
        }
    }

    fn tell(&self, verdict: &mut Verdict, what: &str, id: i64, token: Token, visit: &Visit) {
        let tx = self.transactions.get(token.tx);
        let Visit { process, connected, after, .. } = visit;
        verdict.details.push(format!(
            "{what}: round {id} {token:?} of {tx:?}, process {process}, connected {connected}, \
             after {after:?}"
        ));
    }
}

impl Verdict {
    /// Whether it breaks a promise.
    pub(crate) fn is_bad(&self, lossy: bool) -> bool {
        let gaps = if lossy { 0 } else { self.gaps };
        self.lost + self.twice + self.ghosts + self.disorder + gaps > 0
    }
}

/// When a round was committed; where its writer was not told, when it began.
fn settled(transactions: &[Transaction], token: Token) -> u64 {
    let transaction = transactions.get(token.tx);
    transaction.map_or(0, |tx| match tx.ending {
        Ending::Committed(at) => at,
        _ => tx.began,
    })
}

fn visits(subscriber: &Subscriber) -> Vec<Visit> {
    subscriber.visits.lock().clone()
}

fn starts(subscribers: &[Subscriber]) -> HashMap<u32, u64> {
    let mut starts = HashMap::new();
    for visit in subscribers.iter().flat_map(visits) {
        let start = starts.entry(visit.process).or_insert(visit.connected);
        *start = visit.connected.min(*start);
    }
    starts
}

fn reused(subscribers: &[Subscriber]) -> HashSet<i64> {
    let mut first: HashMap<i64, Token> = HashMap::new();
    let mut reused = HashSet::new();
    for visit in subscribers.iter().flat_map(visits) {
        for (id, token) in visit.rounds {
            if *first.entry(id).or_insert(token) != token {
                reused.insert(id);
            }
        }
    }
    reused
}
