//! WebTransport: rounds as datagrams over HTTP/3, for clients that prefer losing a round to
//! waiting.
//!
//! * **W1** [`session_setup`] sends the opening (seed, replay or `gap`) on a stream. Only after its
//!   acknowledgment does the session join the [`topic_task`] of its topic. Browsers lose datagrams
//!   that arrive together with the response to their request, but not the data of a stream.
//! * **W2** A topic task has one subscription for all its sessions, and sends each the same bytes.
//!   No task, timer, copy or encoding belongs to one session and one round, except inside the
//!   library.
//! * **W3** No round is lost or repeated between the opening and the live rounds. A session joins
//!   with the subscription of its opening, and gets rounds from it. The task drops that
//!   subscription as soon as it is at the same position as its own.
//! * **W4** The task waits for no session. A full datagram buffer drops its oldest datagram. A
//!   large round is dropped if [`session::LATE_MAX`] others wait for their stream. Both are
//!   counted.
//! * **W5** At a shutdown, the endpoint stops accepting and each session gets `bye` on a stream.
//!   After a short wait, connections are closed, and the endpoint last. Nothing accepts from a
//!   closed endpoint, because the library would panic.
//!
//! Each module imports only those before it: [`wire`], [`session`],
//! [`session_leases`], [`topic_task`], [`topic_tasks`], [`session_setup`], [`endpoint`].

mod admission;
pub(crate) mod certificate;
mod endpoint;
mod pacer;
mod session;
mod session_leases;
mod session_setup;
mod topic_task;
mod topic_tasks;
mod wire;

pub(crate) use self::{
    admission::{Admission, ConnectRequest, SessionRefusal},
    endpoint::{BindError, WebTransport},
    wire::opening_bytes,
};
