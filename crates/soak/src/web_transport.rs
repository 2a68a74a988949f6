//! A WebTransport session: live rounds by datagram, replays and seeds by stream.

use std::{pin::Pin, time::Duration};

use futures_util::Stream;
use tokio::io::{AsyncBufReadExt, BufReader};
use wtransport::{Connection, Endpoint, RecvStream};

use testkit::pinned::{Certificate, trusting};

use crate::{
    link::{Arrival, round},
    subscribers::http,
    testbed::NodeAddress,
};

/// A killed server sends nothing over UDP: only the idle timeout shows it.
const SILENCE: Duration = Duration::from_secs(3);

/// The arrivals of a session.
pub(crate) type Arrivals = Pin<Box<dyn Stream<Item = Arrival> + Send>>;

/// Connects; the path follows `/wt` and may have a query.
pub(crate) async fn open(address: NodeAddress, path: &str) -> Option<Arrivals> {
    let answer = http().get(format!("http://{}/wt/certificate", address.addr)).send().await.ok()?;
    let certificate: Certificate = answer.json().await.ok()?;
    let config = trusting(certificate.hash())
        .keep_alive_interval(Some(SILENCE / 3))
        .max_idle_timeout(Some(SILENCE))
        .ok()?
        .build();
    let url = format!("{}{path}", certificate.url);
    let session = Endpoint::client(config).ok()?.connect(url).await.ok()?;
    Some(arrivals(session))
}

fn arrivals(session: Connection) -> Arrivals {
    Box::pin(async_stream::stream! {
        // The first stream is the seed or the replay, which may be empty. Later ones contain rounds that
        // are too large for a datagram.
        let mut first = true;
        loop {
            tokio::select! {
                datagram = session.receive_datagram() => match datagram {
                    Ok(bytes) => yield parse(&String::from_utf8_lossy(&bytes), false),
                    Err(_) => return,
                },
                stream = session.accept_uni() => match stream {
                    Ok(stream) => {
                        let mut lines = lines(stream);
                        while let Ok(Some(line)) = lines.next_line().await {
                            yield parse(&line, first);
                        }
                        first = false;
                    }
                    Err(_) => return,
                },
            }
        }
    })
}

fn lines(stream: RecvStream) -> tokio::io::Lines<BufReader<RecvStream>> {
    BufReader::new(stream).lines()
}

/// Parses a round, or a control object by its `type`.
fn parse(text: &str, sure: bool) -> Arrival {
    match text {
        r#"{"type":"gap"}"# => Arrival::Gap,
        _ => round(text, false, sure),
    }
}
