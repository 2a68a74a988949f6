//! The attacks, by name.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures_util::{StreamExt, future, stream};
use testkit::wait::beside;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};
use wtransport::quinn;

use crate::{
    access,
    clients::{connect, connect_all, encrypted_web_socket, frame, get, quic, web_socket},
    options::{Attack, Options},
    report::measure,
    target::{GAME, Target},
};

/// Rounds of 10 KB for the attacks that read nothing.
const LARGE_ROUND: &str = "insert into rounds (game_id, finished_at, extras) \
    select games.id, now(), jsonb_build_object('x', (select string_agg(md5(random()::text), '') \
    from generate_series(1, 312))) from games, generate_series(1, 1500) where slug = 'crash'";
const SMALL_ROUNDS: &str = "insert into rounds (game_id, finished_at, extras) \
    select games.id, now(), '{\"point\": \"1.25\"}' from games, generate_series(1, 2000) \
    where slug = 'crash'";
/// 10,000 rounds of 300 KB in 10 games, in a table that is streamed from here on.
pub(crate) const LARGE_TABLE: &str = "insert into games (slug, name, type) \
    select 'large-' || g, 'Large', 'large' from generate_series(1, 10) g; \
    insert into rounds (game_id, finished_at, extras) \
    select games.id, now() - interval '1 s' * n, jsonb_build_object('x', repeat('x', 300000)) \
    from games, generate_series(1, 1000) n where type = 'large'";
const MORE_GAMES: &str = "insert into games (slug, name, type) \
    select 'attack-' || g, 'Attack', 'attack' from generate_series(1, 8) g on conflict do nothing";
/// A round close to the default limit of 1 MiB.
const HUGE_ROUND: &str = "insert into rounds (game_id, finished_at, extras) \
    select id, now(), jsonb_build_object('x', repeat('x', 1000000)) from games \
    where slug = 'crash'";

/// Handshakes that are under way at any time.
const CONNECTS_AT_ONCE: usize = 256;

/// What the attackers hold while others are measured.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) sockets: Vec<TcpStream>,
    pub(crate) quic: Vec<quinn::Connection>,
    /// Milliseconds of the resume of another client.
    pub(crate) resume: Option<f64>,
}

/// Runs the attack. Returns while the attackers are connected.
pub(crate) async fn run(options: &Options, target: &Target) -> Result<Held> {
    let count = options.count.unwrap_or_else(|| default_count(options.attack));
    let (address, duration) = (target.address(), options.duration);
    let sockets = match options.attack {
        Attack::Silent => connect_all(address, count, |_| Vec::new()).await,
        Attack::KeepAlive => keep_alive(target, count).await,
        Attack::SlowHead => slow_heads(target, count, duration).await,
        Attack::WsPings => flood(target, count, duration, &[], frame(0x89, 0).repeat(1000)).await,
        Attack::WsMessages => {
            flood(target, count, duration, &[], frame(0x82, 100).repeat(100)).await
        }
        Attack::WsFragments => {
            flood(target, count, duration, &frame(0x02, 0), frame(0, 0).repeat(1000)).await
        }
        Attack::Burner => burn(duration).await,
        Attack::WtHandshakes => {
            let quic = quic(&target.server, count).await;
            return Ok(Held { quic, ..Held::default() });
        }
        Attack::UnreadLists => unread_lists(target, count, duration).await,
        Attack::UnreadReplays => unread_replays(target, count, duration).await,
        Attack::UnreadSeeds => unread_seeds(target, count, duration).await,
        Attack::ResumePoints => return resume_points(target, count).await,
        Attack::LargeStart => Vec::new(),
        Attack::TlsConnects => tls_connects(target, count).await,
        Attack::BadTokens => bad_tokens(target, count, duration).await,
        Attack::Notifications => notify(target, count).await,
    };
    Ok(Held { sockets, ..Held::default() })
}

fn default_count(attack: Attack) -> usize {
    match attack {
        Attack::Silent | Attack::SlowHead => 4000,
        Attack::WsPings | Attack::WsMessages | Attack::WsFragments | Attack::BadTokens => 50,
        Attack::Burner | Attack::LargeStart => 1,
        Attack::WtHandshakes => 1200,
        Attack::KeepAlive | Attack::UnreadLists => 5000,
        Attack::UnreadReplays => 200,
        Attack::UnreadSeeds => 1500,
        Attack::ResumePoints => 400,
        Attack::TlsConnects => 10_000,
        Attack::Notifications => 100_000,
    }
}

async fn keep_alive(target: &Target, count: usize) -> Vec<TcpStream> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let Some(mut socket) = connect(target.address(), &get("/healthz")).await else { continue };
        let mut response = [0; 1024];
        if socket.read(&mut response).await.is_ok_and(|read| read > 0) {
            sockets.push(socket);
        }
    }
    sockets
}

async fn slow_heads(target: &Target, count: usize, duration: Duration) -> Vec<TcpStream> {
    let start = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    let mut sockets = connect_all(target.address(), count, |_| start.clone()).await;
    let end = Instant::now() + duration;
    while Instant::now() < end {
        for socket in &mut sockets {
            let _ = socket.write_all(b"x").await;
        }
        sleep(Duration::from_millis(500)).await;
    }
    sockets
}

/// Floods from WebSockets that connect again as soon as they are closed.
async fn flood(
    target: &Target,
    count: usize,
    duration: Duration,
    start: &[u8],
    frames: Vec<u8>,
) -> Vec<TcpStream> {
    let (address, end) = (target.address(), Instant::now() + duration);
    let attackers = (0..count).map(|_| {
        let (start, frames) = (start.to_vec(), frames.clone());
        beside(async move {
            while Instant::now() < end {
                let socket = web_socket(address, &format!("/ws/{GAME}?seed=none")).await;
                let Some(mut socket) = socket else { continue };
                let _ = socket.write_all(&start).await;
                while Instant::now() < end && socket.write_all(&frames).await.is_ok() {}
            }
        })
    });
    for attacker in attackers.collect::<Vec<_>>() {
        let _ = attacker.await;
    }
    Vec::new()
}

/// Uses each core as a flood does, beside the server.
async fn burn(duration: Duration) -> Vec<TcpStream> {
    let end = Instant::now() + duration;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let burners = (0..cores).map(|_| {
        thread::spawn(move || {
            while Instant::now() < end {
                std::hint::spin_loop();
            }
        })
    });
    let _burners: Vec<_> = burners.collect();
    sleep(duration).await;
    Vec::new()
}

/// WebSockets with TLS that stay, as after an outage of the network.
async fn tls_connects(target: &Target, count: usize) -> Vec<TcpStream> {
    let Some(config) = target.access.tls() else { return Vec::new() };
    let path = format!("/ws/{GAME}");
    let connects =
        (0..count).map(|_| encrypted_web_socket(config.clone(), target.address(), &path));
    let connected = stream::iter(connects).buffer_unordered(CONNECTS_AT_ONCE);
    connected.filter_map(future::ready).collect().await
}

/// Asks again and again with a token that costs a check of its signature.
async fn bad_tokens(target: &Target, count: usize, duration: Duration) -> Vec<TcpStream> {
    let (address, end) = (target.address(), Instant::now() + duration);
    let field = format!("Authorization: {}", access::bad_bearer());
    let request = format!("GET /sse/{GAME} HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n").into_bytes();
    let askers = (0..count).map(|_| beside(ask_until(end, address, request.clone())));
    for asker in askers.collect::<Vec<_>>() {
        let _ = asker.await;
    }
    Vec::new()
}

async fn ask_until(end: Instant, address: SocketAddr, request: Vec<u8>) {
    let mut answer = [0; 2048];
    while Instant::now() < end {
        let Some(mut socket) = connect(address, &request).await else { continue };
        while Instant::now() < end && socket.read(&mut answer).await.is_ok_and(|read| read > 0) {
            if socket.write_all(&request).await.is_err() {
                break;
            }
        }
    }
}

async fn unread_lists(target: &Target, count: usize, duration: Duration) -> Vec<TcpStream> {
    target.database.run(SMALL_ROUNDS).await;
    let request = get(&format!("/rounds/{GAME}?limit=1000"));
    let sockets = connect_all(target.address(), count, |_| request.clone()).await;
    sleep(duration).await;
    sockets
}

async fn unread_replays(target: &Target, count: usize, duration: Duration) -> Vec<TcpStream> {
    let first = target.database.finish(GAME, "{}").await;
    target.database.run(LARGE_ROUND).await;
    target.database.run(MORE_GAMES).await;
    // Each selects another set of games: another topic.
    let path = |number: usize| {
        let bits = (1..=8).filter(|bit| (number >> (bit - 1)) & 1 == 1);
        let games: String = bits.map(|bit| format!("&game=attack-{bit}")).collect();
        get(&format!("/sse?game={GAME}{games}&after={first}"))
    };
    let sockets = connect_all(target.address(), count, path).await;
    sleep(duration).await;
    sockets
}

async fn unread_seeds(target: &Target, count: usize, duration: Duration) -> Vec<TcpStream> {
    target.database.run(HUGE_ROUND).await;
    let request = get(&format!("/sse/{GAME}"));
    let sockets = connect_all(target.address(), count, |_| request.clone()).await;
    sleep(duration).await;
    sockets
}

/// Resume points that are known, and far behind.
async fn resume_points(target: &Target, count: usize) -> Result<Held> {
    let first = target.database.finish(GAME, "{}").await;
    target.database.run(SMALL_ROUNDS).await;
    let path = |number: usize| get(&format!("/sse/{GAME}?after={}", first + number as i64));
    let sockets = connect_all(target.address(), count, path).await;
    let resume = measure(async {
        let request = get(&format!("/sse/{GAME}?after={first}"));
        let Some(mut socket) = connect(target.address(), &request).await else { return false };
        let mut response = [0; 512];
        let read = socket.read(&mut response).await.unwrap_or_default();
        response[..read].starts_with(b"HTTP/1.1 200")
    });
    let resume = resume.await;
    Ok(Held { sockets, resume, ..Held::default() })
}

async fn notify(target: &Target, count: usize) -> Vec<TcpStream> {
    for _ in 0..count.div_ceil(1000) {
        let notify = "select pg_notify('datastream_rounds', 'no round ' || g) \
            from generate_series(1, 1000) g";
        target.database.run(notify).await;
    }
    Vec::new()
}
