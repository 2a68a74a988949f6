//! Turns at a scarce resource, given to client addresses one after the other.
//!
//! An address that waits with a thousand requests delays another's request by one turn, not by a
//! thousand.

use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use tokio::sync::oneshot;

use super::client_network::network;

/// The most requests of one address that wait. The next one is refused at once.
const WAITING_MAX: usize = 512;

/// Too many requests of this address wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests from this address wait for the database")]
pub(crate) struct TooManyWaiting;

/// Hands out a number of turns. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Mutex<Queue>>);

#[derive(Debug)]
struct Queue {
    free: usize,
    /// The most requests of one address that wait.
    most: usize,
    /// By address; `None` for clients whose address is not known.
    waiting: HashMap<Option<IpAddr>, VecDeque<oneshot::Sender<Turn>>>,
    /// The addresses that wait, in the order of their next turns.
    order: VecDeque<Option<IpAddr>>,
}

/// A turn, given to the next in the queue when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Option<Turns>);

impl Turns {
    /// This many turns at once.
    pub(crate) fn new(at_once: usize) -> Self {
        Self::with_most(at_once, WAITING_MAX)
    }

    /// The same for requests whose number has a bound of its own: none is refused.
    pub(crate) fn for_all(at_once: usize) -> Self {
        Self::with_most(at_once, usize::MAX)
    }

    fn with_most(free: usize, most: usize) -> Self {
        let (waiting, order) = (HashMap::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Queue { free, most, waiting, order })))
    }

    /// Waits for a turn of this client's address.
    pub(crate) async fn take(&self, client: Option<IpAddr>) -> Result<Turn, TooManyWaiting> {
        match self.enter(client.map(network))? {
            Ok(turn) => Ok(turn),
            // The sender waits in the queue until it has a turn to send.
            Err(receiver) => receiver.await.map_err(|_| TooManyWaiting),
        }
    }

    fn enter(
        &self,
        client: Option<IpAddr>,
    ) -> Result<Result<Turn, oneshot::Receiver<Turn>>, TooManyWaiting> {
        let mut queue = self.0.lock();
        if queue.free > 0 && queue.order.is_empty() {
            queue.free -= 1;
            return Ok(Ok(Turn(Some(self.clone()))));
        }
        let most = queue.most;
        let waiting = queue.waiting.entry(client).or_default();
        // Before it grows, so that a thousand that wait are not searched for each that comes.
        if waiting.len() >= most || waiting.len() == waiting.capacity() {
            waiting.retain(|sender| !sender.is_closed());
        }
        if waiting.len() >= most {
            return Err(TooManyWaiting);
        }
        let (sender, receiver) = oneshot::channel();
        waiting.push_back(sender);
        if !queue.order.contains(&client) {
            queue.order.push_back(client);
        }
        Ok(Err(receiver))
    }

    /// The next request whose client still waits.
    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        let mut queue = self.0.lock();
        while let Some(client) = queue.order.pop_front() {
            let Some(waiting) = queue.waiting.get_mut(&client) else { continue };
            while waiting.pop_front_if(|sender| sender.is_closed()).is_some() {}
            let next = waiting.pop_front();
            if waiting.is_empty() {
                queue.waiting.remove(&client);
            } else {
                queue.order.push_back(client);
            }
            if next.is_some() {
                return next;
            }
        }
        queue.free += 1;
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else { return };
        while let Some(next) = turns.next() {
            match next.send(Self(Some(turns.clone()))) {
                Ok(()) => return,
                // It left in this moment: the turn goes to the one after it.
                Err(mut turn) => drop(turn.0.take()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[tokio::test]
    async fn an_address_with_many_requests_delays_another_by_one_turn() {
        let turns = Turns::new(1);
        let first = turns.take(address(1)).await.expect("a turn");
        let mut many: Vec<_> = (0..100).map(|_| Box::pin(turns.take(address(1)))).collect();
        assert!(many.iter_mut().all(|one| one.now_or_never().is_none()));
        let mut other = Box::pin(turns.take(address(2)));
        assert!((&mut other).now_or_never().is_none());
        drop(first);
        let turn = (&mut many[0]).now_or_never().expect("its turn").expect("a turn");
        drop(turn);
        let turn = (&mut other).now_or_never().expect("the other's turn").expect("a turn");
        // Those who leave lose their place.
        drop(many.drain(..50));
        drop(turn);
        let next = (&mut many[0]).now_or_never().expect("the next turn").expect("a turn");
        drop((many, next));
        assert!(turns.take(address(3)).now_or_never().is_some(), "the turn is free again");
    }

    #[tokio::test]
    async fn too_many_requests_of_one_address_are_refused() {
        let turns = Turns::new(1);
        let _first = turns.take(address(1)).await.expect("a turn");
        let mut many: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(turns.take(address(1)))).collect();
        assert!(many.iter_mut().all(|one| one.now_or_never().is_none()));
        assert!(matches!(turns.take(address(1)).now_or_never(), Some(Err(TooManyWaiting))));
        assert!(turns.take(address(2)).now_or_never().is_none(), "another address waits");
        drop(many.drain(..1));
        assert!(turns.take(address(1)).now_or_never().is_none(), "one that waited has left");
    }

    #[tokio::test]
    async fn requests_that_have_a_bound_of_their_own_all_get_their_turn() {
        let turns = Turns::for_all(2);
        let mut given = vec![turns.take(None).await, turns.take(None).await];
        let mut many: Vec<_> = (0..WAITING_MAX * 4).map(|_| Box::pin(turns.take(None))).collect();
        assert!(many.iter_mut().all(|one| one.now_or_never().is_none()));
        for one in many {
            given.swap_remove(0).expect("a turn");
            given.push(one.await);
        }
    }
}
