//! A WebTransport session: rounds by datagram as they come, replays and seeds by stream.

use std::{pin::Pin, time::Duration};

use futures_util::Stream;
use tokio::io::{AsyncBufReadExt, BufReader};
use wtransport::{Connection, Endpoint, RecvStream};

use testkit::pinned::{Certificate, trusting};

use crate::{
    link::{Arrival, round},
    stage::Door,
    subscribers::http,
};

/// A killed server says nothing: over UDP only silence tells.
const SILENCE: Duration = Duration::from_secs(3);

/// All that comes over a session.
pub(crate) type Arrivals = Pin<Box<dyn Stream<Item = Arrival> + Send>>;

/// Connects; the path is what follows `/wt`, with its query.
pub(crate) async fn open(door: Door, path: &str) -> Option<Arrivals> {
    let answer = http().get(format!("http://{}/wt/certificate", door.addr)).send().await.ok()?;
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
        // The first stream is the seed or the replay, which may be empty. Later ones bring rounds that
        // fit no datagram.
        let mut first = true;
        loop {
            tokio::select! {
                datagram = session.receive_datagram() => match datagram {
                    Ok(bytes) => yield said(&String::from_utf8_lossy(&bytes), false),
                    Err(_) => return,
                },
                stream = session.accept_uni() => match stream {
                    Ok(stream) => {
                        let mut lines = lines(stream);
                        while let Ok(Some(line)) = lines.next_line().await {
                            yield said(&line, first);
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

/// A round, or a control object by its `type`.
fn said(text: &str, sure: bool) -> Arrival {
    match text {
        r#"{"type":"gap"}"# => Arrival::Gap,
        _ => round(text, false, sure),
    }
}
