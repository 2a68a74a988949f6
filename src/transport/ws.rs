//! WebSocket: one text message a round, pings, and a close code that says what to do next.
//!
//! Works on any byte stream that a handshake has been made on; `http` makes the handshake.

use std::{io::ErrorKind, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        protocol::{
            CloseFrame, Role, WebSocketConfig,
            frame::{Frame as WireFrame, coding::Data, coding::OpCode},
        },
    },
};

use super::{BATCH, LinkHandle, Record, Session, beats, close::CloseReason};
use crate::{
    frame::Frame,
    hub::{Delivery, Opening, Subscription},
    shutdown::Shutdown,
};

/// Messages of clients are read and ignored up to this size: they have nothing to say.
const MESSAGE_BYTES_MAX: usize = 4096;
/// The library's default read buffer of 128 KiB costs 134 KiB per idle connection, this one 2.8.
const READ_BUFFER_BYTES: usize = 1024;
/// Pings in a row that a peer may leave without a pong, each for a heartbeat.
const UNANSWERED_MAX: u8 = 2;
/// How long a close frame may take where nothing waits before it: a reading peer needs a round
/// trip, and a stopping process should not wait a heartbeat for the others.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Streams a session to its peer until either ends it.
pub async fn serve<S>(io: S, session: Session)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let Session { opening, subscription, heartbeat, shutdown, mut record } = session;
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await;
    let mut stream = Stream { socket: &mut socket, record: &record, shutdown: &shutdown };
    let reason = stream.run(opening, subscription, heartbeat).await;
    record.close(reason);
    farewell(socket, reason, heartbeat, &record.link).await;
}

/// No limit to the write buffer: a message is taken only once the last one is on its way, so it
/// holds one batch and one round at most, and a limit would make rounds beyond it undeliverable.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(BATCH)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

/// A stream under way.
struct Stream<'a, S> {
    socket: &'a mut WebSocketStream<S>,
    record: &'a Record,
    shutdown: &'a Shutdown,
}

impl<S> Stream<'_, S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    async fn run(
        &mut self,
        opening: Opening,
        mut subscription: Subscription,
        heartbeat: Duration,
    ) -> CloseReason {
        if let Err(reason) = self.open(opening).await {
            return reason;
        }
        let mut beats = beats(heartbeat);
        let mut unanswered = 0;
        loop {
            let step = tokio::select! {
                biased;
                () = self.shutdown.requested() => Err(CloseReason::ShuttingDown),
                message = self.socket.next() => heard(message, &mut unanswered),
                _ = beats.tick() => self.ping(&mut unanswered).await,
                delivery = subscription.next() => self.deliver(delivery).await,
            };
            if let Err(reason) = step {
                return reason;
            }
        }
    }

    async fn open(&mut self, opening: Opening) -> Result<(), CloseReason> {
        match opening {
            Opening::Seed(seed) => self.send(seed.into_iter().collect()).await,
            Opening::Resumed(frames) => self.send(frames).await,
            Opening::Gap(_) => Err(CloseReason::Gap),
        }
    }

    async fn deliver(&mut self, delivery: Delivery) -> Result<(), CloseReason> {
        match delivery {
            Delivery::Rounds(frames) => self.send(frames).await,
            Delivery::TooSlow => Err(CloseReason::TooSlow),
            Delivery::Closed => Err(CloseReason::ShuttingDown),
        }
    }

    async fn ping(&mut self, unanswered: &mut u8) -> Result<(), CloseReason> {
        if *unanswered == UNANSWERED_MAX {
            return Err(CloseReason::NoPong);
        }
        *unanswered += 1;
        self.write([Message::Ping(Default::default())]).await
    }

    async fn send(&mut self, frames: Vec<Frame>) -> Result<(), CloseReason> {
        let rounds = frames.len();
        self.write(frames.iter().map(text)).await?;
        self.record.written(rounds);
        Ok(())
    }

    /// Writes the messages joined, and flushes. A stop that is asked for meanwhile ends it between
    /// two messages or with a part of one still in the buffer, so that the close frame can follow.
    async fn write(
        &mut self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<(), CloseReason> {
        let writing = async {
            for message in messages {
                self.socket.feed(message).await?;
            }
            self.socket.flush().await
        };
        tokio::select! {
            biased;
            () = self.shutdown.requested() => Err(CloseReason::ShuttingDown),
            outcome = writing => outcome.map_err(|error| reason(&error)),
        }
    }
}

/// A round as a text message. The JSON was encoded by this program: checking it for UTF-8 again
/// for every subscriber would be a waste.
fn text(frame: &Frame) -> Message {
    Message::Frame(WireFrame::message(frame.json(), OpCode::Data(Data::Text), true))
}

/// What the peer said: only pongs and its goodbye matter.
fn heard(message: Option<Result<Message, Error>>, unanswered: &mut u8) -> Result<(), CloseReason> {
    match message {
        Some(Ok(Message::Pong(_))) => *unanswered = 0,
        Some(Ok(Message::Close(_))) | None => return Err(CloseReason::Client),
        Some(Ok(_)) => {}
        Some(Err(error)) => return Err(reason(&error)),
    }
    Ok(())
}

/// The reason behind an error of the library.
fn reason(error: &Error) -> CloseReason {
    match error {
        Error::Capacity(_) => CloseReason::TooLarge,
        Error::Utf8(_) => CloseReason::NotUtf8,
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => CloseReason::Client,
        Error::Protocol(_) => CloseReason::Protocol,
        Error::Io(error) if error.kind() == ErrorKind::TimedOut => CloseReason::TooSlow,
        Error::Io(_) => CloseReason::Client,
        _ => CloseReason::Failed,
    }
}

/// Sends the close frame and ends our half, then reads until the peer ends its own: closing while
/// it still sends would reset the connection, and the code could be lost with it. A peer that does
/// not take its leave in time is reset.
async fn farewell<S>(
    mut socket: WebSocketStream<S>,
    reason: CloseReason,
    heartbeat: Duration,
    link: &LinkHandle,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let leave = async {
        let last = CloseFrame { code: reason.code().into(), reason: reason.text().into() };
        // Refused when the peer closed first: then the flush sends the answer to its close frame.
        let _ = socket.feed(Message::Close(Some(last))).await;
        socket.flush().await.ok()?;
        socket.get_mut().shutdown().await.ok()?;
        // Raw: after a broken or an overlong frame there are no messages to be read any more.
        let mut rest = [0; 512];
        while socket.get_mut().read(&mut rest).await.ok()? > 0 {}
        Some(())
    };
    if tokio::time::timeout(patience(reason, heartbeat), leave).await.is_err() {
        link.reset_on_drop();
    }
}

/// A slow peer has a heartbeat to read what comes before its close frame, so that it is gone within
/// two; for others nothing comes before it.
fn patience(reason: CloseReason, heartbeat: Duration) -> Duration {
    match reason {
        CloseReason::TooSlow => heartbeat,
        _ => heartbeat.min(LAST_WORDS),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{io::DuplexStream, sync::Semaphore};

    use super::*;
    use crate::{
        round::{FinishedAt, GameId, Round, RoundId, UnixMillis},
        telemetry::metrics::{Metrics, Transport},
    };

    type Socket = WebSocketStream<DuplexStream>;

    async fn pair() -> (Socket, Socket) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let ours = WebSocketStream::from_raw_socket(ours, Role::Server, Some(config())).await;
        (ours, WebSocketStream::from_raw_socket(theirs, Role::Client, None).await)
    }

    fn record(shutdown: &Shutdown) -> Record {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place");
        let link = LinkHandle::default();
        Record::open(&Metrics::default(), Transport::websocket, shutdown, link, place)
    }

    fn frame(id: i64, extras: &str) -> Frame {
        Frame::encode(&Round {
            round_id: RoundId(id),
            game_id: GameId(1),
            game_slug: "crash".into(),
            game_type: "multiplier".into(),
            finished_at: FinishedAt::from_micros(0).expect("in range"),
            extras: extras.into(),
            timestamp: UnixMillis(1),
        })
    }

    #[tokio::test]
    async fn each_round_is_a_text_message_of_its_own_whatever_its_size() {
        let (mut socket, mut peer) = pair().await;
        let (shutdown, large) = (Shutdown::default(), "é".repeat(1 << 20));
        let record = record(&shutdown);
        let mut stream = Stream { socket: &mut socket, record: &record, shutdown: &shutdown };
        let frames = vec![frame(1, "{}"), frame(2, &large), frame(3, "{}")];
        let sent = stream.send(frames.clone());
        let read = async {
            for frame in frames {
                let message = peer.next().await.expect("open").expect("a message");
                assert_eq!(message.into_text().expect("text").as_bytes(), frame.json());
            }
        };
        assert_eq!(tokio::join!(sent, read).0, Ok(()));
    }

    #[tokio::test]
    async fn two_pings_may_go_unanswered_and_a_pong_starts_over() {
        let (mut socket, _peer) = pair().await;
        let shutdown = Shutdown::default();
        let record = record(&shutdown);
        let mut stream = Stream { socket: &mut socket, record: &record, shutdown: &shutdown };
        let mut unanswered = 0;
        assert_eq!(stream.ping(&mut unanswered).await, Ok(()));
        assert_eq!(heard(Some(Ok(Message::Pong("".into()))), &mut unanswered), Ok(()));
        assert_eq!(stream.ping(&mut unanswered).await, Ok(()));
        assert_eq!(stream.ping(&mut unanswered).await, Ok(()));
        assert_eq!(stream.ping(&mut unanswered).await, Err(CloseReason::NoPong));
    }

    #[tokio::test]
    async fn a_stop_ends_a_write_that_nobody_takes() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let mut socket = WebSocketStream::from_raw_socket(ours, Role::Server, Some(config())).await;
        let shutdown = Shutdown::default();
        let record = record(&shutdown);
        let mut stream = Stream { socket: &mut socket, record: &record, shutdown: &shutdown };
        let stop = async { shutdown.request() };
        let (sent, ()) = tokio::join!(stream.send(vec![frame(1, "{}"); 1000]), stop);
        assert_eq!(sent, Err(CloseReason::ShuttingDown));
    }

    #[tokio::test]
    async fn a_peer_is_told_why_and_may_answer() {
        let (socket, mut peer) = pair().await;
        let link = LinkHandle::default();
        let leave = farewell(socket, CloseReason::Gap, LAST_WORDS, &link);
        let read = async move {
            let message = peer.next().await.expect("open").expect("a message");
            let Message::Close(Some(last)) = message else { panic!("not a close: {message}") };
            assert_eq!(u16::from(last.code), 4410);
            while peer.next().await.is_some() {}
        };
        tokio::join!(leave, read);
        assert!(!link.resets_on_drop());
    }

    #[tokio::test]
    async fn a_peer_that_does_not_leave_is_reset() {
        let (socket, _peer) = pair().await;
        let link = LinkHandle::default();
        farewell(socket, CloseReason::TooSlow, Duration::from_millis(20), &link).await;
        assert!(link.resets_on_drop());
    }
}
