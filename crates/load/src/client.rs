//! Many subscribers in one thread: an epoll loop that needs little CPU compared with the server.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, Release},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use mio::{Events, Poll, Token, event::Event};
use rustls::ClientConfig;

use crate::{
    connection::{Connection, Scratch},
    deliveries::{Deliveries, Faults},
    histogram::Histogram,
    message::Reader,
    options::Transport,
    run_state::{Marks, RunState},
    websocket,
};

/// Concurrent handshakes: enough to keep the server busy, fewer than its backlog.
const OPENING_MAX: usize = 256;
/// The longest wait in `epoll` before `stop` is checked.
const POLL_WITHIN: Duration = Duration::from_millis(20);

/// The subscribers of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) transport: Transport,
    pub(crate) connections: usize,
    pub(crate) start: Start,
    /// Whether the client never sleeps in the kernel: waking it would add to the cost of the server's
    /// send.
    pub(crate) spin: bool,
}

/// The expected start of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// The latest round, which has the sequence number 0.
    Seed,
    /// No round: the floor sends no seed.
    Bare,
    /// All rounds after this one, which has this sequence number.
    After { round_id: u64, seq: u64 },
}

/// The result of a client.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// From the publisher's clock to the client's read.
    pub(crate) publish: Histogram,
    /// From the return of the commit to the client's read.
    pub(crate) commit: Histogram,
    /// From the arrival of the notification at a plain LISTEN to the client's read.
    pub(crate) notify: Histogram,
    pub(crate) faults: Faults,
    pub(crate) round_id: u64,
}

/// A running client.
#[derive(Debug)]
pub(crate) struct Client {
    state: Arc<RunState>,
    thread: JoinHandle<Result<Subscribers>>,
    connections: usize,
}

impl Client {
    /// Starts to connect.
    pub(crate) fn start(plan: Plan, state: Arc<RunState>) -> Self {
        let (shared, connections) = (state.clone(), plan.connections);
        let thread = thread::spawn(move || {
            let outcome = Subscribers::new(plan, shared.clone()).and_then(Subscribers::run);
            if outcome.is_err() {
                // The publisher must not wait for deliveries that will never come.
                shared.done.send_replace(u64::MAX);
            }
            outcome
        });
        Self { state, thread, connections }
    }

    /// Waits until every connection has its response head and its seed; returns the duration.
    pub(crate) fn connected(self, patience: Duration) -> Result<(Self, Duration)> {
        let start = Instant::now();
        while self.state.ready.load(Relaxed) < self.connections {
            if self.is_finished() {
                return Err(self.finish(0).err().unwrap_or_else(|| anyhow!("not all connected")));
            }
            let ready = self.state.ready.load(Relaxed);
            ensure!(start.elapsed() < patience, "{ready} of {} connected", self.connections);
            thread::sleep(Duration::from_millis(1));
        }
        Ok((self, start.elapsed()))
    }

    /// Whether the client has failed.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the connections; `last` is the last round that was published.
    pub(crate) fn finish(self, last: u64) -> Result<Seen> {
        self.state.stop.store(true, Relaxed);
        let subscribers = self.thread.join().map_err(|_| anyhow!("the client panicked"))??;
        Ok(subscribers.seen(last))
    }
}

/// Latencies since a mark that may be set after the round has arrived.
#[derive(Debug, Default)]
struct Since {
    histogram: Histogram,
    waiting: Vec<(u64, i64)>,
}

impl Since {
    fn record(&mut self, marks: &Marks, seq: u64, now: i64) {
        match marks.get(seq) {
            Some(mark) => self.histogram.record(now - mark),
            None => self.waiting.push((seq, now)),
        }
    }

    fn settle(&mut self, marks: &Marks) {
        let Self { histogram, waiting } = self;
        waiting.retain(|&(seq, now)| match marks.get(seq) {
            Some(mark) => {
                histogram.record(now - mark);
                false
            }
            None => true,
        });
    }
}

struct Subscribers {
    plan: Plan,
    state: Arc<RunState>,
    poll: Poll,
    request: Vec<u8>,
    connections: Vec<Option<Connection>>,
    ready: usize,
    closed: usize,
    reader: Reader,
    received: Deliveries,
    publish: Histogram,
    commit: Since,
    notify: Since,
    round_id: u64,
}

impl Subscribers {
    fn new(plan: Plan, state: Arc<RunState>) -> Result<Self> {
        let done = match plan.start {
            Start::Seed | Start::Bare => 0,
            Start::After { seq, .. } => seq,
        };
        state.done.send_replace(done);
        Ok(Self {
            poll: Poll::new()?,
            request: request(&plan),
            connections: Vec::with_capacity(plan.connections),
            ready: 0,
            closed: 0,
            reader: Reader::default(),
            received: Deliveries::new(u32::try_from(plan.connections)?, done),
            publish: Histogram::default(),
            commit: Since::default(),
            notify: Since::default(),
            round_id: 0,
            plan,
            state,
        })
    }

    fn run(mut self) -> Result<Self> {
        let mut events = Events::with_capacity(1024);
        let mut scratch = Scratch::default();
        while !self.state.stop.load(Relaxed) {
            self.connect()?;
            let nap = if self.plan.spin { Duration::ZERO } else { POLL_WITHIN };
            match self.poll.poll(&mut events, Some(nap)) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                self.handle(event, &mut scratch)?;
            }
            self.commit.settle(&self.state.committed);
            if let Some(notified) = &self.state.notified {
                self.notify.settle(notified);
            }
        }
        self.connections.drain(..).flatten().for_each(Connection::abort);
        Ok(self)
    }

    fn connect(&mut self) -> Result<()> {
        while self.connections.len() < self.plan.connections
            && self.connections.len().saturating_sub(self.ready + self.closed) < OPENING_MAX
        {
            let token = Token(self.connections.len());
            let Plan { address, tls, transport, .. } = &self.plan;
            let opened =
                Connection::open(*address, tls.as_ref(), *transport, self.poll.registry(), token);
            self.connections.push(Some(opened.context("connect")?));
        }
        Ok(())
    }

    fn handle(&mut self, event: &Event, scratch: &mut Scratch) -> Result<()> {
        let token = event.token();
        let Some(mut connection) = self.connections[token.0].take() else { return Ok(()) };
        if event.is_writable() {
            connection.writable(&self.request, self.poll.registry(), token)?;
        }
        if !event.is_readable() && !event.is_read_closed() {
            self.connections[token.0] = Some(connection);
            return Ok(());
        }
        let taken = connection
            .readable(scratch, |connection, json| self.round(token.0, connection, json))?;
        self.state.reads.fetch_add(taken.reads, Relaxed);
        self.state.bytes.fetch_add(taken.bytes, Relaxed);
        if taken.accepted {
            self.accepted(&mut connection);
        }
        if taken.closed {
            self.closed += 1;
            self.state.closed.store(self.closed, Relaxed);
        } else {
            self.connections[token.0] = Some(connection);
        }
        Ok(())
    }

    /// The response head has arrived: a connection that expects no seed is ready.
    fn accepted(&mut self, connection: &mut Connection) {
        match self.plan.start {
            Start::Seed => {}
            Start::Bare | Start::After { .. } => {
                connection.last.get_or_insert(self.first());
                self.ready();
            }
        }
    }

    /// The sequence number before the first expected round.
    fn first(&self) -> u64 {
        match self.plan.start {
            Start::Seed | Start::Bare => 0,
            Start::After { seq, .. } => seq,
        }
    }

    fn ready(&mut self) {
        self.ready += 1;
        self.state.ready.store(self.ready, Release);
    }

    fn round(&mut self, index: usize, connection: &mut Connection, json: &[u8]) -> Result<()> {
        let now = self.state.clock.micros();
        let stamp = self.reader.read(json)?;
        self.round_id = self.round_id.max(stamp.round_id);
        if matches!(self.plan.start, Start::Seed) && connection.last.is_none() {
            ensure!(stamp.seq == 0, "a connection was seeded with round {}", stamp.seq);
            connection.last = Some(0);
            self.ready();
            return Ok(());
        }
        let first = self.first();
        let last = connection.last.get_or_insert(first);
        if self.received.take(index, last, stamp.seq) {
            self.state.done.send_replace(self.received.done());
        }
        self.state.deliveries.fetch_add(1, Relaxed);
        if self.state.recording.load(Relaxed) {
            self.publish.record(now - stamp.sent_us);
            self.commit.record(&self.state.committed, stamp.seq, now);
            if let Some(notified) = &self.state.notified {
                self.notify.record(notified, stamp.seq, now);
            }
        }
        Ok(())
    }

    fn seen(self, last: u64) -> Seen {
        Seen {
            publish: self.publish,
            commit: self.commit.histogram,
            notify: self.notify.histogram,
            faults: self.received.faults(last, self.closed),
            round_id: self.round_id,
        }
    }
}

fn request(plan: &Plan) -> Vec<u8> {
    let path = plan.transport.path();
    let mut head = format!("GET /{path}/load HTTP/1.1\r\nHost: {}\r\n", plan.address);
    if plan.transport == Transport::Ws {
        head.push_str("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
        head.push_str(&format!("Sec-WebSocket-Key: {}\r\n", websocket::KEY));
    }
    if let Start::After { round_id, .. } = plan.start {
        match plan.transport {
            Transport::Sse => head.push_str(&format!("Last-Event-ID: {round_id}\r\n")),
            Transport::Ws => head = head.replacen("/load ", &format!("/load?after={round_id} "), 1),
        }
    }
    head.push_str("\r\n");
    head.into_bytes()
}
