//! The leader's answers to what edges ask: only it has a database.

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{Semaphore, watch};

use super::{
    BusError,
    ask::{MORE, SIGN_EVERY},
    leader_state::LeaderState,
    request::Bus,
    wire::{self, Answered, Failure, Question, WireGame},
};
use crate::{
    ops::{
        memory_budget::MemoryBudget,
        telemetry::metrics::{MemoryUse, Metrics},
    },
    stream::{
        round::NamedRound,
        round_store::{SharedRoundStore, StoreError},
        transaction::{Attachment, RoundName, Xid},
    },
};

/// Questions that are answered at once. The database's connections are fewer, and each kind of read
/// has its own: one kind must not delay another.
const AT_ONCE: usize = 32;
/// Questions that wait for their turn or are answered. Their edges get a sign every second: one that
/// gets none asks again.
const TAKEN: usize = 1_024;
/// Room for the headers of a message.
const HEADERS_MAX: usize = 1_024;

/// Answers questions until the connection ends.
pub(crate) async fn answer_questions(
    bus: Bus,
    store: SharedRoundStore,
    state: watch::Sender<LeaderState>,
    metrics: Metrics,
    budget: MemoryBudget,
) -> Result<(), BusError> {
    let questions = bus.subscribe(bus.own_subjects().ask("*")).await?;
    let turns = Semaphore::new(AT_ONCE);
    let (bus, store, state, metrics, turns) = (&bus, &store, &state, &metrics, &turns);
    let budget = &budget;
    questions
        .for_each_concurrent(TAKEN, |message| async move {
            if bus.own_subjects().question(&message.subject) == Some("lost") {
                return note_loss(&message, state);
            }
            metrics.bus.questions_total.inc();
            let answering = async {
                // The semaphore is never closed. Until it is sent, the answer is in memory.
                let turn = turns.acquire().await;
                let space = state.borrow().space;
                (answer(store, space, &message.payload).await, turn)
            };
            let (answered, _turn) = tokio::select! {
                answered = answering => answered,
                () = keep_waiting(bus, &message) => return,
            };
            reply(bus, &message, &answered, budget).await;
        })
        .await;
    Ok(())
}

/// Says that the answer is on its way: an edge whose question met the end of a leader, or of a
/// connection, asks again soon.
async fn keep_waiting(bus: &Bus, message: &Message) {
    let Some(inbox) = &message.reply else { return };
    loop {
        tokio::time::sleep(SIGN_EVERY).await;
        let mut headers = HeaderMap::new();
        headers.insert(MORE, "1");
        // If NATS is away, the edge asks again.
        let _ = bus.client().publish_with_headers(inbox.clone(), headers, Bytes::new()).await;
    }
}

fn note_loss(message: &Message, state: &watch::Sender<LeaderState>) {
    let lost = std::str::from_utf8(&message.payload).ok().and_then(|text| text.parse().ok());
    state.send_if_modified(|state| {
        state.reported_lost = state.reported_lost.max(lost);
        false
    });
}

async fn answer(store: &SharedRoundStore, space: u64, payload: &[u8]) -> Answered {
    let Ok(question) = serde_json::from_slice(payload) else {
        return Answered::Failed(Failure::Refused("the question cannot be read".to_owned()));
    };
    let answered = find(store, space, question).await;
    answered.unwrap_or_else(|error| Answered::Failed(error.into()))
}

async fn find(
    store: &SharedRoundStore,
    own_space: u64,
    question: Question,
) -> Result<Answered, StoreError> {
    let names = |names: Vec<(i32, _)>| -> Vec<RoundName> {
        names.into_iter().map(|(table, round)| (Attachment(table), round)).collect()
    };
    let keys = |keys: Vec<_>| Answered::Keys(keys.iter().map(wire::key_to_wire).collect());
    Ok(match question {
        Question::Games => {
            Answered::Games(store.games().await?.into_iter().map(WireGame::from).collect())
        }
        Question::Place(name) => {
            let named = NamedRound::parse(&name);
            let named = named.map_err(|error| StoreError::Refused(error.to_string()))?;
            keys(store.list_place(&named).await?)
        }
        Question::Keys { games, after, limit } => {
            let after = after.map(wire::place_from_wire).transpose()?;
            let page = store.list_keys(&games, after.as_ref(), limit).await?;
            let keys = page.keys.iter().map(wire::key_to_wire).collect();
            Answered::Page { keys, is_last: page.is_last }
        }
        Question::Rounds { keys, bytes } => {
            let keys: Result<Vec<_>, _> = keys.into_iter().map(wire::key_from_wire).collect();
            wire::listed_to_wire(store.list_rounds(&keys?, bytes).await?)
        }
        Question::Points(rounds) => {
            let points = store.resume_points(&rounds).await?;
            Answered::Points(points.into_iter().map(|(round, Xid(xid))| (round, xid)).collect())
        }
        Question::Replay { space, from, games, limit, snapshot } => {
            if space != own_space {
                // The edge has not read the new leader's first mark yet.
                let why = "the database is on another timeline than this edge has read";
                return Err(StoreError::Unavailable(why.to_owned()));
            }
            wire::stored_to_wire(store.replay(Xid(from), games.as_deref(), limit, &snapshot).await?)
        }
        Question::Contents(rounds) => wire::contents_to_wire(store.contents(&names(rounds)).await?),
    })
}

/// Sends the answer in messages of the size that NATS takes.
async fn reply(bus: &Bus, message: &Message, answered: &Answered, budget: &MemoryBudget) {
    let Some(inbox) = message.reply.clone() else { return };
    let json = Bytes::from(serde_json::to_vec(answered).unwrap_or_default());
    let _counted = budget.count(MemoryUse::replays, json.len());
    let size = bus.client().max_payload().saturating_sub(HEADERS_MAX).max(HEADERS_MAX);
    let mut rest = json;
    loop {
        let part = rest.split_to(rest.len().min(size));
        let mut headers = HeaderMap::new();
        if !rest.is_empty() {
            headers.insert(MORE, "1");
        }
        // If NATS is away, the edge waits in vain, and its client gets 503.
        if bus.client().publish_with_headers(inbox.clone(), headers, part).await.is_err()
            || rest.is_empty()
        {
            return;
        }
    }
}
