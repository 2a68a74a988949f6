//! Echoes WebSocket messages with the frame reader and writer of the server's shards.
//! `tests/autobahn/run` runs its protocol test suite against it.
//!
//! `cargo run -p datastream-load --bin ws_echo -- 127.0.0.1:9001` prints the address once it listens.
//! With the PEM files of a certificate and its key as further arguments, it speaks TLS as shards do.

use std::{
    env,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};

use datastream::internals::{
    close::CloseReason,
    frame::web_socket_header,
    frame_reader::{Event, FrameReader},
    frame_writer,
    tls::{TlsServer, TlsSocket},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Largest message: those of the suite have at most 16 MB.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// First byte of an unfragmented message.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let files = args.next().zip(args.next());
    let tls = files.map(|(cert, key)| TlsServer::read(cert.into(), key.into())).transpose()?;
    let listener = TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?);
    for socket in listener.incoming() {
        let (socket, tls) = (socket?, tls.clone());
        // An error of one client must not affect the others.
        thread::spawn(move || accept(socket, tls));
    }
    Ok(())
}

fn accept(socket: TcpStream, tls: Option<TlsServer>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    match tls {
        None => serve(socket, |socket| socket.shutdown(Shutdown::Write)),
        Some(tls) => serve(tls.accept(socket)?, TlsSocket::finish),
    }
}

fn serve<S: Read + Write>(
    mut socket: S,
    finish: impl FnOnce(&mut S) -> io::Result<()>,
) -> io::Result<()> {
    let unread = handshake(&mut socket)?;
    let mut session = Session::default();
    let mut reader = FrameReader::new(MESSAGE_BYTES_MAX);
    session.feed(&mut reader, unread);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        socket.write_all(&std::mem::take(&mut session.answer))?;
        if session.is_over {
            break;
        }
        match socket.read(&mut buffer)? {
            0 => return Ok(()),
            read => session.feed(&mut reader, buffer[..read].to_vec()),
        }
    }
    // Unread data would cause a reset, and the client could lose the close frame.
    finish(&mut socket)?;
    while socket.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Answers the handshake; returns the bytes after it.
fn handshake(socket: &mut (impl Read + Write)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let end = loop {
        if let Some(at) = head.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        let mut bytes = [0; 1024];
        match socket.read(&mut bytes)? {
            read if read > 0 && head.len() < HEAD_BYTES_MAX => {
                head.extend_from_slice(&bytes[..read]);
            }
            _ => return Err(ErrorKind::InvalidData.into()),
        }
    };
    let unread = head.split_off(end);
    let head = String::from_utf8_lossy(&head);
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut keys = fields.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let key = keys.next().ok_or(ErrorKind::InvalidData)?.1.trim();
    let accept = derive_accept_key(key.as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    socket.write_all(response.as_bytes())?;
    Ok(unread)
}

#[derive(Default)]
struct Session {
    message: Vec<u8>,
    answer: Vec<u8>,
    is_over: bool,
}

impl Session {
    fn feed(&mut self, reader: &mut FrameReader, mut bytes: Vec<u8>) {
        if let Err(error) = reader.read(&mut bytes, |event| self.handle(event)) {
            let reason = CloseReason::from(error);
            self.close(Some(reason.code()), reason.text());
        }
    }

    fn handle(&mut self, event: Event<'_>) {
        match event {
            Event::Data { is_text, bytes, ends } => {
                self.message.extend_from_slice(bytes);
                if ends {
                    let first = if is_text { TEXT } else { BINARY };
                    web_socket_header(first, self.message.len(), &mut self.answer);
                    self.answer.append(&mut self.message);
                }
            }
            Event::Ping(payload) => frame_writer::pong(payload, &mut self.answer),
            Event::Pong(_) => {}
            Event::Close(code) => self.close(code, ""),
        }
    }

    fn close(&mut self, code: Option<u16>, reason: &str) {
        self.answer.extend_from_slice(&frame_writer::close(code, reason));
        self.is_over = true;
    }
}
