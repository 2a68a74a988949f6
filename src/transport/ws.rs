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
    hub::{Delivery, Opening},
    shutdown::Shutdown,
};

/// Messages of clients are read and ignored up to this size: they have nothing to say.
const MESSAGE_BYTES_MAX: usize = 4096;
/// The library's default read buffer of 128 KiB costs 134 KiB per idle connection, this one 2.8.
const READ_BUFFER_BYTES: usize = 1024;
/// A ping was answered, or two of them were not.
const UNANSWERED_MAX: u8 = 2;
/// How long the last words of a stopping server may take: a reading peer needs a round trip, and
/// the process should not wait a heartbeat for the others.
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
        mut subscription: crate::hub::Subscription,
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
        self.write(vec![Message::Ping(Default::default())]).await
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

/// A slow peer has a heartbeat to read what is before its close frame, so that it is gone within
/// two; nobody else has anything to read.
fn patience(reason: CloseReason, heartbeat: Duration) -> Duration {
    match reason {
        CloseReason::TooSlow => heartbeat,
        _ => heartbeat.min(LAST_WORDS),
    }
}
