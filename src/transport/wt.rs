//! WebTransport: rounds as datagrams over HTTP/3, for who would rather miss one than wait for it.
//!
//! * **W1** A client is a [`set_up`] until its opening (seed, replay, `gap`) has been acknowledged,
//!   and only then takes a seat in the [`task`] of its topic. Datagrams that reach a browser
//!   together with the answer to its request are lost; what a stream carries is not.
//! * **W2** A room is one task with one subscription for all its sessions; it walks them and hands
//!   each the same bytes. No task, timer, copy or encoding belongs to a session and a round, but
//!   for what the library does to send a packet.
//! * **W3** Nothing falls between opening and live, and nothing is repeated: a newcomer brings the
//!   subscription of its opening with it. The room takes rounds for it from there, and lets go of
//!   it at the first moment when both subscriptions have taken the very same rounds.
//! * **W4** Nobody is waited for. A full datagram buffer drops its oldest, a large round that finds
//!   [`peer::LATE_MAX`] before it still unwritten is dropped; both are counted.
//! * **W5** The end: no more is accepted, each session is told `bye` on a stream, the streams get a
//!   moment, then connections are closed, and last of all the endpoint. Nothing accepts from an
//!   endpoint that is closed, which would panic.
//!
//! Each knows what is before it, and nothing of what is behind: [`wire`], [`session`], [`task`],
//! [`topic_tasks`], [`set_up`], [`endpoint`].

mod admission;
pub(crate) mod certificate;
mod endpoint;
mod pacer;
mod session;
mod session_setup;
mod topic_task;
mod topic_tasks;
mod wire;

pub(crate) use self::{
    admission::{Admission, ConnectRequest, Refusal},
    endpoint::WebTransport,
};
