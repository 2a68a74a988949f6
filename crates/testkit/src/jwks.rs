//! A server of a JWK set, well behaved or not.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// `200` with this body.
    Body(String),
    /// These bytes as they are.
    Raw(String),
    /// Nothing: the connection stays open.
    Silence,
}

/// A running server. It stops when it is dropped.
#[derive(Debug)]
pub struct JwksServer {
    pub url: String,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl JwksServer {
    /// A server on a free port.
    pub async fn start(answer: Answer) -> Self {
        Self::on_port(0, answer).await
    }

    /// A server on this port.
    pub async fn on_port(port: u16, answer: Answer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
        let url = format!("http://{}/jwks.json", listener.local_addr().expect("an address"));
        let (answer, requests) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (shown, counted) = (Arc::clone(&answer), Arc::clone(&requests));
        #[expect(clippy::disallowed_methods, reason = "aborted when this server is dropped")]
        let task = tokio::task::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                read_head(&mut socket).await;
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = shown.lock().expect("not poisoned").clone();
                let bytes = match answer {
                    Answer::Silence => {
                        open.push(socket);
                        continue;
                    }
                    Answer::Raw(bytes) => bytes,
                    Answer::Body(body) => format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                         content-length: {}\r\n\r\n{body}",
                        body.len()
                    ),
                };
                // The client may have enough of it.
                let _ = socket.write_all(bytes.as_bytes()).await;
            }
        });
        Self { url, answer, requests, task }
    }

    /// Changes the answer.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().expect("not poisoned") = answer;
    }

    /// The requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for JwksServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_head(socket: &mut TcpStream) {
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|part| part == b"\r\n\r\n") {
        match socket.read(&mut piece).await {
            Ok(read) if read > 0 => head.extend_from_slice(&piece[..read]),
            _ => return,
        }
    }
}
