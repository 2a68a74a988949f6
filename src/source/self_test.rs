//! The delivery test of doctor: whether the LISTEN connection of `serve` receives a notification from
//! a query connection.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio_postgres::{AsyncMessage, Client};

use super::error::CaptureError;
use crate::postgres::{client, target::PgTarget};

/// A notification arrives within a millisecond of its commit.
const ARRIVES_WITHIN: Duration = Duration::from_secs(3);

/// The result of the test.
#[derive(Debug)]
pub(crate) struct DeliveryTest {
    /// How long the notification took, if it came.
    pub delivered_after: Option<Duration>,
    /// The server's `tcp_user_timeout` for the LISTEN connection; `None` over a Unix socket.
    pub tcp_user_timeout: Option<String>,
}

/// Listens on one connection, and notifies on another.
pub(crate) async fn test_delivery(
    listen: &PgTarget,
    queries: &PgTarget,
) -> Result<DeliveryTest, CaptureError> {
    let mut listener = client::connect(listen, "doctor", &[]).await?;
    let client = listener.client;
    let number = fastrand::u64(1..).to_string();
    let ask = prepare(&client);
    let tcp_user_timeout = tokio::select! {
        answer = ask => answer?,
        () = drain(&mut listener.messages) => return Err(CaptureError::Closed),
    };
    let delivery = async {
        tokio::try_join!(notify(queries, &number), async {
            Ok(receives(&mut listener.messages, &number).await)
        })
    };
    let delivered_after = match tokio::time::timeout(ARRIVES_WITHIN, delivery).await {
        Ok(outcome) => {
            let (sent, arrived) = outcome?;
            arrived.then(|| sent.elapsed())
        }
        Err(_) => None,
    };
    Ok(DeliveryTest { delivered_after, tcp_user_timeout })
}

async fn prepare(client: &Client) -> Result<Option<String>, CaptureError> {
    let row = client
        .query_typed_one(
            "select inet_server_addr() is not null, current_setting('tcp_user_timeout')",
            &[],
        )
        .await?;
    // A channel of its own, so that it does not wake running servers.
    client.batch_execute("listen datastream_doctor").await?;
    let tcp: bool = row.try_get(0)?;
    Ok(tcp.then(|| row.try_get(1)).transpose()?)
}

/// Sends the number. Returns the time of sending: the connection takes longer than the notification.
async fn notify(target: &PgTarget, number: &str) -> Result<Instant, CaptureError> {
    let mut sender = client::connect_to_send(target, "doctor").await?;
    let text = format!("notify datastream_doctor, '{number}'");
    let now = Instant::now();
    tokio::select! {
        sent = sender.client.batch_execute(&text) => Ok(sent.map(|()| now)?),
        () = drain(&mut sender.messages) => Err(CaptureError::Closed),
    }
}

async fn drain(messages: &mut client::Messages) {
    while messages.next().await.is_some() {}
}

/// Whether the number arrives before the connection ends.
async fn receives(messages: &mut client::Messages, number: &str) -> bool {
    while let Some(Ok(message)) = messages.next().await {
        if matches!(&message, AsyncMessage::Notification(sent) if sent.payload() == number) {
            return true;
        }
    }
    false
}
