//! Whether a LISTEN connection made as `serve` makes it hears what a query connection sends.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio_postgres::{AsyncMessage, Client};

use super::error::CaptureError;
use crate::postgres::{client, target::PgTarget};

/// A notification arrives within a millisecond of its commit.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// What was found out.
#[derive(Debug)]
pub(crate) struct Hearing {
    /// How long the notification took, if it came.
    pub heard: Option<Duration>,
    /// The server's `tcp_user_timeout` for the connection that listens; `None` over a socket.
    pub tcp_user_timeout: Option<String>,
}

/// Listens by one URL, notifies by the other.
pub(crate) async fn hear_oneself(
    listen: &PgTarget,
    queries: &PgTarget,
) -> Result<Hearing, CaptureError> {
    let mut ear = client::connect(listen, "doctor", &[]).await?;
    let client = ear.client;
    let number = fastrand::u64(1..).to_string();
    let ask = prepare(&client);
    let tcp_user_timeout = tokio::select! {
        answer = ask => answer?,
        () = drain(&mut ear.messages) => return Err(CaptureError::Closed),
    };
    let heard = async {
        tokio::try_join!(notify(queries, &number), async {
            Ok(hears(&mut ear.messages, &number).await)
        })
    };
    let heard = match tokio::time::timeout(HEARD_WITHIN, heard).await {
        Ok(outcome) => {
            let (sent, heard) = outcome?;
            heard.then(|| sent.elapsed())
        }
        Err(_) => None,
    };
    Ok(Hearing { heard, tcp_user_timeout })
}

async fn prepare(client: &Client) -> Result<Option<String>, CaptureError> {
    let row = client
        .query_typed_one(
            "select inet_server_addr() is not null, current_setting('tcp_user_timeout')",
            &[],
        )
        .await?;
    // Its own channel: a running server need not wake for it.
    client.batch_execute("listen datastream_doctor").await?;
    let tcp: bool = row.try_get(0)?;
    Ok(tcp.then(|| row.try_get(1)).transpose()?)
}

/// When it was sent: making the connection takes longer than the notification.
async fn notify(target: &PgTarget, number: &str) -> Result<Instant, CaptureError> {
    let mut mouth = client::connect_to_send(target, "doctor").await?;
    let text = format!("notify datastream_doctor, '{number}'");
    let now = Instant::now();
    tokio::select! {
        sent = mouth.client.batch_execute(&text) => Ok(sent.map(|()| now)?),
        () = drain(&mut mouth.messages) => Err(CaptureError::Closed),
    }
}

async fn drain(messages: &mut client::Messages) {
    while messages.next().await.is_some() {}
}

/// Whether the number arrives before the connection ends.
async fn hears(messages: &mut client::Messages, number: &str) -> bool {
    while let Some(Ok(message)) = messages.next().await {
        if matches!(&message, AsyncMessage::Notification(sent) if sent.payload() == number) {
            return true;
        }
    }
    false
}
