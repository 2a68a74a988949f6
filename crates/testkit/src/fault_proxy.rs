//! A TCP proxy that injects faults, for example between the server and PostgreSQL.

use std::io::ErrorKind;

use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
};

use super::{wait::beside, within};

/// The current state of the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Link {
    /// Incremented to close every older connection.
    epoch: u64,
    /// No bytes are forwarded in either direction; connections stay open.
    stalled: bool,
    /// New connections are closed at once.
    refusing: bool,
    /// The upstream side is closed and the client side stays open.
    half_open: bool,
}

/// A proxy to an upstream port on this machine. It ends with the test's runtime.
#[derive(Debug)]
pub struct FaultProxy {
    pub port: u16,
    link: watch::Sender<Link>,
    accepted: watch::Receiver<usize>,
}

impl FaultProxy {
    /// Listens on a free port and forwards connections to `upstream`.
    pub async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (link, state) = watch::channel(Link::default());
        let (count, accepted) = watch::channel(0);
        beside(accept(listener, upstream, state, count));
        Self { port, link, accepted }
    }

    /// Closes every connection; accepts new ones.
    pub fn cut(&self) {
        self.link.send_modify(|link| link.epoch += 1);
    }

    /// Closes every connection and refuses new ones.
    pub fn refuse(&self) {
        self.link.send_modify(|link| (link.epoch, link.refusing) = (link.epoch + 1, true));
    }

    /// Stops forwarding; connections stay open.
    pub fn stall(&self) {
        self.link.send_modify(|link| link.stalled = true);
    }

    /// Closes the upstream side only, as if its machine had lost power.
    pub fn half_open(&self) {
        self.link.send_modify(|link| link.half_open = true);
    }

    /// Forwards again. Closes connections that were half open.
    pub fn resume(&self) {
        self.link.send_modify(|link| {
            let epoch = link.epoch + u64::from(link.half_open);
            *link = Link { epoch, ..Link::default() };
        });
    }

    /// Cuts several times, each time after a new connection.
    #[track_caller]
    pub fn flap(&self, times: usize) -> impl Future<Output = ()> + use<'_> {
        within(format!("{times} reconnects"), async move {
            for _ in 0..times {
                let before = self.connections();
                self.cut();
                self.connected(before + 1).await;
            }
        })
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        *self.accepted.borrow()
    }

    /// Waits for this number of connections.
    #[track_caller]
    pub fn connected(&self, count: usize) -> impl Future<Output = ()> + use<> {
        let mut accepted = self.accepted.clone();
        within(format!("{count} connections"), async move {
            accepted.wait_for(|made| *made >= count).await.expect("a proxy that runs");
        })
    }
}

async fn accept(
    listener: TcpListener,
    upstream: u16,
    link: watch::Receiver<Link>,
    count: watch::Sender<usize>,
) {
    loop {
        let Ok((near, _)) = listener.accept().await else { return };
        count.send_modify(|made| *made += 1);
        let state = *link.borrow();
        if state.refusing {
            continue;
        }
        let link = link.clone();
        beside(async move {
            if let Ok(far) = TcpStream::connect(("127.0.0.1", upstream)).await {
                let _ = relay(near, far, link, state.epoch).await;
            }
        });
    }
}

/// Forwards bytes in both directions until one side closes or the link is cut.
async fn relay(
    mut near: TcpStream,
    mut far: TcpStream,
    mut link: watch::Receiver<Link>,
    epoch: u64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let (mut from_near, mut to_near) = near.split();
    let (mut from_far, mut to_far) = far.split();
    loop {
        let state = *link.borrow_and_update();
        if state.epoch != epoch {
            return Ok(());
        }
        if state.half_open {
            to_far.shutdown().await?;
            return stay_silent(&mut link, epoch).await;
        }
        tokio::select! {
            changed = link.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
            ready = from_near.readable(), if !state.stalled => {
                ready?;
                pass(&mut from_near, &mut to_far, &mut buffer).await?;
            }
            ready = from_far.readable(), if !state.stalled => {
                ready?;
                pass(&mut from_far, &mut to_near, &mut buffer).await?;
            }
        }
    }
}

/// Keeps the client side open and silent until the link is resumed or cut.
async fn stay_silent(link: &mut watch::Receiver<Link>, epoch: u64) -> std::io::Result<()> {
    let _ = link.wait_for(|state| state.epoch != epoch).await;
    Ok(())
}

/// One read and its write. Must run to its end, or bytes are lost: the caller checks the link only
/// between two calls.
async fn pass(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    buffer: &mut [u8],
) -> std::io::Result<()> {
    let read = match from.try_read(buffer) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(read) => read,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error),
    };
    to.write_all(&buffer[..read]).await
}
