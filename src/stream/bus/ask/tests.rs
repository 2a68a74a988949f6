//! Questions to a leader on a real nats-server.

use std::collections::HashSet;

use async_nats::{HeaderMap, Message};
use testkit::{eventually, nats::Nats, wait::beside, within};
use tokio::task::JoinHandle;

use super::*;
use crate::stream::{
    bus::{LeaderState, answer_questions, beat::Beat, tests::bus},
    list::ListKey,
    transaction::RoundName,
};

/// An edge that knows this of its leader.
fn edge(bus: &Bus, leader: Option<LeaderView>) -> BusStore {
    let shared = Arc::new(OnceLock::from(bus.clone()));
    let following = (watch::channel(0).1, watch::channel(leader).1);
    let budget = MemoryBudget::new(64 << 20, &Metrics::default());
    BusStore::new(shared, Metrics::default(), Arc::default(), following, budget)
}

/// A leader whose answers wait for this sender, and what edges receive.
async fn busy_leader(bus: &Bus) -> (watch::Sender<bool>, Subscriber) {
    let (release, released) = watch::channel(false);
    let (store, state) = (Arc::new(Busy(released)), watch::Sender::new(LeaderState::default()));
    let budget = MemoryBudget::unlimited();
    beside(answer_questions(bus.clone(), store, state, Metrics::default(), budget));
    let received = bus.subscribe("_INBOX.>".to_owned()).await.expect("a subscription");
    bus.flush().await;
    (release, received)
}

/// Asks for the games meanwhile.
fn ask_games(edge: &BusStore) -> JoinHandle<Result<Vec<Game>, StoreError>> {
    let edge = edge.clone();
    beside(async move { edge.games().await })
}

fn asked(edge: &BusStore) -> u64 {
    edge.metrics.bus.questions_total.get()
}

/// What a leader gets.
async fn questions(bus: &Bus) -> Subscriber {
    bus.subscribe(bus.own_subjects().ask("*")).await.expect("a subscription")
}

async fn next(questions: &mut Subscriber) -> Message {
    within("a question", questions.next()).await.expect("a question")
}

async fn answer_no_games(bus: &Bus, question: Message) {
    let inbox = question.reply.expect("an inbox");
    bus.client().publish(inbox, r#"{"games":[]}"#.into()).await.expect("sent");
}

#[tokio::test]
async fn a_question_whose_leader_dies_is_asked_again_of_the_next() {
    let nats = Nats::start().await;
    let bus = bus(&nats).await;
    let mut former = questions(&bus).await;
    let edge = edge(&bus, None);
    let games = ask_games(&edge);
    next(&mut former).await;
    drop(former);
    // After the sign that does not come it meets no leader, at least twice.
    eventually("the question to be asked again", || async { (asked(&edge) > 2).then_some(()) })
        .await;
    let mut leader = questions(&bus).await;
    let question = next(&mut leader).await;
    answer_no_games(&bus, question).await;
    assert!(games.await.expect("a task").expect("an answer").is_empty());
}

#[tokio::test]
async fn a_question_that_meets_no_leader_is_given_up_soon() {
    let nats = Nats::start().await;
    let bus = bus(&nats).await;
    let edge = edge(&bus, None);
    let begun = Instant::now();
    let unanswered = edge.games().await.expect_err("nobody leads");
    assert_eq!(unanswered, unavailable("no capture node leads"));
    assert!(begun.elapsed() >= LEADER_WITHIN && asked(&edge) > 1, "one may be about to lead");
}

#[tokio::test]
async fn a_leader_that_gives_signs_is_waited_for() {
    let nats = Nats::start().await;
    let bus = bus(&nats).await;
    let (release, mut signs) = busy_leader(&bus).await;
    let edge = edge(&bus, None);
    let games = ask_games(&edge);
    let mut seen = 0;
    while seen < 3 {
        let message = within("a sign", signs.next()).await.expect("a message");
        seen += u32::from(message.headers.is_some_and(|headers| headers.get(MORE).is_some()));
    }
    release.send_replace(true);
    assert!(games.await.expect("a task").expect("an answer").is_empty());
    assert_eq!(asked(&edge), 1, "it was asked again after {SIGN_WITHIN:?}, in spite of the signs");
}

#[tokio::test]
async fn questions_that_wait_for_their_turn_get_signs() {
    /// More than the leader answers at once.
    const QUESTIONS: usize = 40;
    let nats = Nats::start().await;
    let bus = bus(&nats).await;
    let (release, mut signs) = busy_leader(&bus).await;
    let edges: Vec<_> = (0..QUESTIONS).map(|_| edge(&bus, None)).collect();
    let games: Vec<_> = edges.iter().map(ask_games).collect();
    let all_have_signs = async {
        let mut inboxes = HashSet::new();
        while inboxes.len() < QUESTIONS {
            let message = signs.next().await.expect("a message");
            if message.headers.is_some_and(|headers| headers.get(MORE).is_some()) {
                inboxes.insert(message.subject.to_string());
            }
        }
    };
    within("a sign for each question", all_have_signs).await;
    release.send_replace(true);
    for games in games {
        assert!(games.await.expect("a task").expect("an answer").is_empty());
    }
}

#[tokio::test]
async fn a_leader_of_an_earlier_version_gives_no_signs_and_is_waited_for() {
    let nats = Nats::start().await;
    let bus = bus(&nats).await;
    let mut leader = questions(&bus).await;
    let beat = r#"{"version":1,"node":"a","claim":1,"end":1,"is_live":true,"is_released":false,
        "is_alone":true}"#;
    let beat = Beat::read(beat.as_bytes()).expect("a beat");
    let patient = edge(&bus, Some(LeaderView { beat, received: Instant::now() }));
    let games = ask_games(&patient);
    let question = next(&mut leader).await;
    // An edge that expects signs asks again meanwhile.
    let other = edge(&bus, None);
    let again = ask_games(&other);
    next(&mut leader).await;
    answer_no_games(&bus, next(&mut leader).await).await;
    assert!(again.await.expect("a task").is_ok());
    answer_no_games(&bus, question).await;
    assert!(games.await.expect("a task").is_ok());
    assert_eq!((asked(&patient), asked(&other)), (1, 2));
}

#[tokio::test]
async fn the_bytes_of_an_answer_are_counted_until_it_is_complete_and_read() {
    let nats = Nats::start().await;
    let bus = bus(&nats).await;
    let mut leader = questions(&bus).await;
    let edge = edge(&bus, None);
    let games = ask_games(&edge);
    let inbox = next(&mut leader).await.reply.expect("an inbox");
    let (first, rest) = r#"{"games":[]}"#.split_at(5);
    let mut more = HeaderMap::new();
    more.insert(MORE, "1");
    let sent = bus.client().publish_with_headers(inbox.clone(), more, first.into()).await;
    sent.expect("sent");
    let counted = || edge.budget.used(MemoryUse::lists);
    eventually("its bytes to be counted", || async { (counted() == 5).then_some(()) }).await;
    bus.client().publish(inbox, rest.into()).await.expect("sent");
    assert!(games.await.expect("a task").expect("an answer").is_empty());
    assert_eq!(counted(), 0);
}

#[test]
fn questions_of_one_kind_do_not_delay_another() {
    let asking = Asking::new();
    let replay = Question::Points(Vec::new());
    let take = |question: &Question| asking.turn(question).now_or_never();
    let held: Vec<_> = std::iter::from_fn(|| take(&replay)).collect();
    assert_eq!(held.len(), 5);
    let list = Question::Place(String::new());
    let lists: Vec<_> = std::iter::from_fn(|| take(&list)).collect();
    assert_eq!(lists.len(), 2);
    assert!(take(&Question::Games).expect("a turn").is_ok());
    drop(held);
    assert!(take(&replay).expect("a turn").is_ok());
}

/// A store that answers once it is released.
#[derive(Debug)]
struct Busy(watch::Receiver<bool>);

impl RoundStore for Busy {
    fn games(&self) -> Answer<'_, Vec<Game>> {
        let mut released = self.0.clone();
        async move {
            let _ = released.wait_for(|released| *released).await;
            Ok(Vec::new())
        }
        .boxed()
    }

    fn list_place<'a>(&'a self, _: &'a NamedRound) -> Answer<'a, Vec<ListKey>> {
        std::future::pending().boxed()
    }

    fn list_keys<'a>(
        &'a self,
        _: &'a [GameId],
        _: Option<&'a ListPlace>,
        _: usize,
    ) -> Answer<'a, ListKeys> {
        std::future::pending().boxed()
    }

    fn list_rounds<'a>(&'a self, _: &'a [ListKey], _: usize) -> Answer<'a, ListedRounds> {
        std::future::pending().boxed()
    }

    fn resume_points<'a>(&'a self, _: &'a [RoundId]) -> Answer<'a, HashMap<RoundId, Xid>> {
        std::future::pending().boxed()
    }

    fn replay<'a>(
        &'a self,
        _: Xid,
        _: Option<&'a [GameId]>,
        _: usize,
        _: &'a str,
    ) -> Answer<'a, StoredRounds> {
        std::future::pending().boxed()
    }

    fn contents<'a>(&'a self, _: &'a [RoundName]) -> Answer<'a, Vec<(RoundName, Round)>> {
        std::future::pending().boxed()
    }
}
