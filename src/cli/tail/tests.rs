//! Tail against a scripted server.

use std::sync::{Arc, Mutex};

use futures_util::SinkExt;
use tokio::{net::TcpListener, time::timeout};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::CloseFrame,
    },
};

use super::*;

/// The rounds that one connection gets, and the close code. Without a code the server drops it.
type Script = (&'static [i64], Option<u16>);

/// Serves one connection after the other. Returns the requested paths.
async fn serve(listener: TcpListener, scripts: Vec<Script>) -> Vec<String> {
    let requested = Arc::new(Mutex::new(Vec::new()));
    for (rounds, close) in scripts {
        let (stream, _) = listener.accept().await.expect("a connection");
        let requested = Arc::clone(&requested);
        #[expect(clippy::result_large_err, reason = "the library's own signature")]
        let record =
            move |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
                requested.lock().expect("not poisoned").push(request.uri().to_string());
                Ok(response)
            };
        let mut socket = accept_hdr_async(stream, record).await.expect("a handshake");
        for id in rounds {
            socket.send(Message::text(round(*id))).await.expect("sent");
        }
        if let Some(code) = close {
            let frame = CloseFrame { code: code.into(), reason: "said the server".into() };
            socket.close(Some(frame)).await.expect("closed");
        }
    }
    Arc::try_unwrap(requested).expect("all ended").into_inner().expect("not poisoned")
}

fn round(id: i64) -> String {
    format!(
        r#"{{"round_id":{id},"game_id":1,"game_slug":"crash","game_type":"multiplier","finished_at":"2026-01-17T00:45:42Z","extras":"{{}}","timestamp":1768621542123}}"#
    )
}

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs tail on such a server. Returns the outcome and the requested paths.
async fn tail(scripts: Vec<Script>, output: impl Write) -> (anyhow::Result<()>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = listener.local_addr().expect("an address").to_string();
    let options = TailOptions {
        game: Some("crash".to_owned()),
        kind: None,
        url: url.parse().expect("an address"),
        after: None,
        token: None,
        json: true,
    };
    let both = async { tokio::join!(Tail::new(options, output).run(), serve(listener, scripts)) };
    timeout(std::time::Duration::from_secs(20), both).await.expect("an end")
}

#[tokio::test]
async fn it_resumes_after_the_last_round_and_prints_each_once() {
    let output = Output::default();
    let scripts =
        vec![(&[1, 2][..], None), (&[2, 3], Some(1001)), (&[], Some(4410)), (&[9], Some(1008))];
    let (outcome, requested) = tail(scripts, output.clone()).await;
    let error = outcome.expect_err("1008 is a refusal").to_string();
    assert!(error.ends_with("said the server"), "{error}");
    let resumed = ["/ws/crash", "/ws/crash?after=2", "/ws/crash?after=3", "/ws/crash"];
    assert_eq!(requested, resumed);
    let printed = output.0.lock().expect("not poisoned").clone();
    let expected: String = [1, 2, 3, 9].map(|id| round(id) + "\n").concat();
    assert_eq!(String::from_utf8(printed).expect("UTF-8"), expected);
}

#[tokio::test]
async fn it_succeeds_when_its_stdout_is_closed() {
    let (outcome, _) = tail(vec![(&[1], None)], Closed).await;
    outcome.expect("a closed pipe is not a failure");
}
