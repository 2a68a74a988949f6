//! The answers to resumes, checked against a model of the database and plain lists. Transactions
//! overlap, ring buffers are small, nodes restart, and clients disconnect anywhere and resume.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashSet},
};

use proptest::test_runner::{Config, TestRunner};

use super::{
    model::{Answer, AnswerKind, Database, GAMES, Node, Row, Standing},
    *,
};

/// Rounds in a ring buffer: few, so that most resume points are evicted.
const HISTORY_MAX: usize = 8;
const WRITERS: usize = 4;
const CLIENTS: usize = 4;
const NODES_MAX: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// This writer's transaction finishes a round of this game, at a time that is so many seconds
    /// late. The writer begins a transaction if none is open.
    Finish(usize, i64, i64),
    Commit(usize),
    RollBack(usize),
    /// This node reads the new commits; `true`: they are durable.
    Poll(usize, bool),
    /// This node restarts and reads so many rows of the outbox.
    Restart(usize, usize),
    /// Retention deletes so many of the oldest rows.
    Trim(usize),
    /// This client connects to this node.
    Connect(usize, usize),
    /// This client takes so many of its waiting rounds, then disconnects.
    Disconnect(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES_MAX;
    let finish = (0..WRITERS, 0..GAMES, -2_i64..3);
    prop_oneof![
        9 => finish.prop_map(|(writer, game, late)| Step::Finish(writer, game, late)),
        6 => (0..WRITERS).prop_map(Step::Commit),
        1 => (0..WRITERS).prop_map(Step::RollBack),
        5 => (node(), any::<bool>()).prop_map(|(node, durable)| Step::Poll(node, durable)),
        1 => (node(), 1_usize..30).prop_map(|(node, rows_read)| Step::Restart(node, rows_read)),
        1 => (1_usize..4).prop_map(Step::Trim),
        5 => (0..CLIENTS, node()).prop_map(|(client, node)| Step::Connect(client, node)),
        5 => (0..CLIENTS, 0_usize..6).prop_map(|(client, taken)| Step::Disconnect(client, taken)),
    ]
}

struct Client {
    topic: Topic,
    /// How many commits had been published when it began.
    since: usize,
    /// The rounds it has taken since, each once, in order.
    taken: Vec<i64>,
    last: Option<i64>,
    /// The node it is connected to, or was last.
    node: usize,
    /// While connected: the opening, and the subscription.
    stream: Option<(Vec<i64>, Subscription)>,
}

impl Client {
    fn begin(&mut self, node: &Node) {
        let (seed, subscription) = seed(&node.hub, &self.topic);
        self.last = seed.map(|frame| frame.round_id().columns().0);
        self.taken = self.last.into_iter().collect();
        (self.since, self.stream) = (node.read, Some((vec![], subscription)));
    }

    fn disconnect(&mut self, most: usize) -> Result<(), TestCaseError> {
        let Some((mut received, mut subscription)) = self.stream.take() else { return Ok(()) };
        let (later, cut) = drain(&mut subscription);
        received.extend(later);
        prop_assert!(!cut);
        prop_assert_eq!(received.iter().collect::<HashSet<_>>().len(), received.len(), "twice");
        received.into_iter().take(most).for_each(|id| self.take(id));
        Ok(())
    }

    fn take(&mut self, id: i64) {
        self.last = Some(id);
        if !self.taken.contains(&id) {
            self.taken.push(id);
        }
    }

    /// Connects, or resumes: then returns how the node answered.
    fn connect(
        &mut self,
        nodes: &mut [Node],
        database: &Database,
    ) -> Result<Option<AnswerKind>, TestCaseError> {
        let Some(last) = self.last else {
            self.begin(&nodes[self.node]);
            return Ok(None);
        };
        let mut answer = nodes[self.node].answer(database, &self.topic, &RoundId::number(last));
        if matches!(answer, Answer::Evicted) {
            nodes[self.node].poll(database, true);
            answer = nodes[self.node].answer(database, &self.topic, &RoundId::number(last));
        }
        match answer {
            Answer::Resumed(kind, received, subscription) => {
                self.check(kind, &received, &nodes[self.node], database)?;
                self.disconnect_anywhere(&received, nodes, database)?;
                self.stream = Some((received, subscription));
                Ok(Some(kind))
            }
            Answer::Unknown => {
                self.begin(&nodes[self.node]);
                Ok(Some(AnswerKind::Gap))
            }
            Answer::Evicted => Err(TestCaseError::fail("evicted again without a new round")),
        }
    }

    /// It can disconnect after any of the received rounds, and resume there on any node.
    fn disconnect_anywhere(
        &self,
        received: &[i64],
        nodes: &[Node],
        database: &Database,
    ) -> Result<(), TestCaseError> {
        let (topic, taken) = (self.topic.clone(), self.taken.clone());
        let mut other = Self { topic, taken, stream: None, ..*self };
        for id in received {
            other.take(*id);
            for node in nodes {
                if let Answer::Resumed(kind, received, _) =
                    node.answer(database, &self.topic, &RoundId::number(*id))
                {
                    other.check(kind, &received, node, database)?;
                }
            }
        }
        Ok(())
    }

    /// It received every round of its topic that it may have missed, and no other topic's. A process
    /// that alone delivered the named round sends just the rounds after it.
    fn check(
        &self,
        kind: AnswerKind,
        received: &[i64],
        node: &Node,
        database: &Database,
    ) -> Result<(), TestCaseError> {
        let of_topic = |row: &&Row| self.topic.matches(&row.captured.round);
        let id = |row: &Row| row.finish().round.columns().0;
        let read = &database.committed[..node.read];
        let all: BTreeSet<i64> = read.iter().filter(of_topic).map(id).collect();
        prop_assert!(
            received.iter().all(|id| all.contains(id)),
            "not of the topic: {:?}",
            received
        );
        let due = read.iter().skip(self.since).filter(of_topic).map(id);
        let mut missed = due.filter(|id| !received.contains(id) && !self.taken.contains(id));
        prop_assert_eq!(missed.next(), None, "lost after {:?}: {:?}", self.last, received);
        if kind == AnswerKind::Live {
            let exact = self.last.and_then(|last| node.later(&self.topic, &RoundId::number(last)));
            prop_assert_eq!(exact.as_deref(), Some(received));
        }
        Ok(())
    }

    /// A round whose transaction began after another's commit is after it.
    fn in_order(&self, database: &Database) -> bool {
        let at = |id: &i64| {
            database.committed.iter().position(|row| row.finish().round.columns().0 == *id)
        };
        let began = |at: usize| database.committed[at].began_after;
        let taken: Vec<usize> = self.taken.iter().filter_map(at).collect();
        let fresh = taken.iter().filter(|at| **at >= self.since);
        let fresh: Vec<_> = fresh.collect();
        let too_late = |(n, at): (usize, &&usize)| fresh[..n].iter().any(|had| began(**had) > **at);
        !fresh.iter().enumerate().any(too_late)
    }
}

fn clients() -> Vec<Client> {
    let topics = [
        Topic::Everything,
        Topic::game(GameId::number(1)),
        Topic::kind("odd"),
        Topic::kind("even"),
    ];
    let client =
        |topic| Client { topic, since: 0, taken: vec![], last: None, node: 0, stream: None };
    topics.into_iter().map(client).collect()
}

/// Runs the steps on so many nodes; returns how each resume was answered.
fn run_steps(
    (nodes, standing): (usize, Standing),
    history: usize,
    steps: Vec<Step>,
) -> Result<Vec<AnswerKind>, TestCaseError> {
    let (mut database, mut clients, mut kinds) = (Database::new(), clients(), Vec::new());
    let start =
        |database: &Database, rows_read| Node::start(database, history, rows_read, standing);
    let mut nodes: Vec<_> = (0..nodes).map(|_| start(&database, usize::MAX)).collect();
    let count = nodes.len();
    let index = |node: usize| node % count;
    for step in steps {
        match step {
            Step::Finish(writer, game, late) => database.finish(writer, game, late),
            Step::Commit(writer) => database.commit(writer),
            Step::RollBack(writer) => database.roll_back(writer),
            Step::Poll(node, durable) => nodes[index(node)].poll(&database, durable),
            Step::Trim(rows) => {
                let read = nodes.iter().map(|node| node.read).min();
                database.trim(rows, read.unwrap_or_default());
            }
            Step::Restart(node, rows_read) => {
                let mut there = clients.iter_mut().filter(|client| client.node == index(node));
                there.try_for_each(|client| client.disconnect(usize::MAX))?;
                nodes[index(node)] = start(&database, rows_read);
            }
            Step::Disconnect(client, taken) => clients[client].disconnect(taken)?,
            Step::Connect(client, _) if clients[client].stream.is_some() => {}
            Step::Connect(client, node) => {
                clients[client].node = index(node);
                kinds.extend(clients[client].connect(&mut nodes, &database)?);
            }
        }
    }
    for client in &mut clients {
        client.disconnect(usize::MAX)?;
        prop_assert!(client.in_order(&database), "out of order: {:?}", client.taken);
    }
    Ok(kinds)
}

/// Runs random steps many times; each of these kinds of answer must occur often.
fn check_resumes(nodes: (usize, Standing), wanted: &[AnswerKind]) {
    let kinds = RefCell::new(BTreeMap::<AnswerKind, u32>::new());
    let steps = (1..=HISTORY_MAX, prop::collection::vec(step(), 1..120));
    let outcome = TestRunner::new(Config::with_cases(500)).run(&steps, |(history, steps)| {
        for kind in run_steps(nodes, history, steps)? {
            *kinds.borrow_mut().entry(kind).or_default() += 1;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let often = |kind: &AnswerKind| kinds.borrow().get(kind).is_some_and(|times| *times >= 25);
    assert!(wanted.iter().all(often), "{wanted:?}: {kinds:?}");
}

#[test]
fn a_resume_point_that_only_the_table_has_is_not_answered_from_incomplete_ring_buffers() {
    use self::Step::{Commit, Connect, Finish, Poll, Restart};
    // Two rounds of game 2 overlap, and the first to commit is the latest. A client has only that one
    // when a restarted node no longer reads the outbox far enough back for both.
    let game_2 = [Finish(0, 2, 1), Commit(0), Finish(1, 2, -1), Poll(0, false), Connect(3, 0)];
    let game_1 = [Finish(1, 1, 0), Commit(1), Restart(0, 1), Connect(3, 0)];
    let kinds = run_steps((1, Standing::Alone), 1, [&game_2[..], &game_1].concat());
    assert_eq!(kinds.map_err(|lost| lost.to_string()), Ok(vec![AnswerKind::Replayed]));
}

#[test]
fn a_resume_is_refused_or_returns_every_round_that_the_client_may_have_missed() {
    check_resumes(
        (1, Standing::Alone),
        &[
            AnswerKind::Live,
            AnswerKind::Transaction,
            AnswerKind::Table,
            AnswerKind::Replayed,
            AnswerKind::Gap,
        ],
    );
}

/// The kinds of answer of several nodes.
const AT_LEAST_ONCE: [AnswerKind; 5] = [
    AnswerKind::Shared,
    AnswerKind::Transaction,
    AnswerKind::Table,
    AnswerKind::Replayed,
    AnswerKind::Gap,
];

#[test]
fn a_resume_on_another_node_is_refused_or_returns_every_round_that_the_client_may_have_missed() {
    check_resumes((NODES_MAX, Standing::Shared), &AT_LEAST_ONCE);
}

#[test]
fn the_same_goes_for_nodes_that_have_found_themselves_alone_and_then_lost_the_database() {
    check_resumes((NODES_MAX, Standing::Lapsed), &AT_LEAST_ONCE);
}

#[test]
fn a_node_answers_exactly_again_once_its_lease_is_renewed() {
    let (hub, publisher) = hub(8);
    // Of overlapping transactions, the younger one committed first.
    let found = |poll, xid| Captured { poll, ..captured(xid, 1, xid.cast_unsigned(), 1) };
    publisher.publish(vec![found(1, 2)]);
    publisher.publish(vec![found(2, 1)]);
    let later = || resumed(&hub, &Topic::Everything, 1);
    assert_eq!(later(), Some(vec![]));
    publisher.answer_exactly_until(Instant::now());
    assert_eq!(later(), Some(vec![2]), "another node may have sent 2 after 1");
    publisher.answer_exactly_until(Instant::now() + Duration::from_secs(60));
    assert_eq!(later(), Some(vec![]));
    publisher.share(true);
    assert_eq!(later(), Some(vec![2]));
}
