// example: rounds.rs
use std::{env, process::exit, time::Duration};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::{
    connect_async_with_config,
    tungstenite::{Error, Message, protocol::WebSocketConfig},
};

/// The server pings every 15 s: a connection that is silent for so long is dead.
const SILENCE: Duration = Duration::from_secs(40);

#[tokio::main]
async fn main() {
    let server = env::var("SERVER").unwrap_or_else(|_| "ws://localhost:3000".to_owned());
    let game = env::args().nth(1).unwrap_or_else(|| "crash".to_owned());
    let url = format!("{server}/ws?game={}", encode(&game));
    let mut after: Option<String> = None;
    let mut wait = 1.0;
    loop {
        let reason = follow(&url, &mut after, &mut wait).await;
        let delay = wait * fastrand::f64();
        eprintln!("{reason}; again in {delay:.1} s");
        sleep(Duration::from_secs_f64(delay)).await;
        wait = f64::min(wait * 2.0, 30.0);
    }
}

/// Prints rounds until the connection ends; returns the reason.
async fn follow(url: &str, after: &mut Option<String>, wait: &mut f64) -> String {
    // The resume point is in the URL, so each attempt has its own.
    let resume = after.as_ref().map(|id| format!("&after={}", encode(id))).unwrap_or_default();
    let url = format!("{url}{resume}");
    // No limit: a client that cannot read a large round would resume before it for ever.
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let mut socket =
        match timeout(SILENCE, connect_async_with_config(url, Some(config), true)).await {
            Ok(Ok((socket, _))) => socket,
            Ok(Err(Error::Http(response))) => {
                let status = response.status().as_u16();
                let body = response.into_body().unwrap_or_default();
                let reason = format!("{status} {}", String::from_utf8_lossy(&body));
                if matches!(status, 400 | 401 | 403 | 404) {
                    eprintln!("{reason}");
                    exit(1);
                }
                return reason;
            }
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "no answer".to_owned(),
        };
    loop {
        match timeout(SILENCE, socket.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => {
                let round: Value = serde_json::from_str(&text).unwrap_or_default();
                // A number, or a string, as it stands in the JSON.
                let id = &round["round_id"];
                *after = Some(id.as_str().map_or_else(|| id.to_string(), str::to_owned));
                *wait = 1.0;
                println!("{id} {}", round["extras"].as_str().unwrap_or_default());
            }
            Ok(Some(Ok(Message::Close(Some(frame))))) => {
                // The resume point is gone: start over with the latest round.
                if u16::from(frame.code) == 4410 {
                    *after = None;
                }
                return format!("closed with {} {}", frame.code, frame.reason);
            }
            Ok(Some(Ok(_))) => {} // a ping, which the library answers
            Ok(Some(Err(error))) => return error.to_string(),
            Ok(None) => return "the connection ended".to_owned(),
            Err(_) => return "the connection is silent".to_owned(),
        }
    }
}

/// Percent-encodes what a query cannot hold.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                (byte as char).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
