//! The log on NATS JetStream, from which servers without a database get their rounds.
//!
//! One capture node at a time appends rounds to one stream. It names the sequence behind which each
//! append belongs, and has one append in flight: that elects the leader and stops a former one.
//!
//! * [`LogWriter`]: appends, as the leader. [`Takeover`]: what the next leader reads before.
//! * [`Edge`]: fills and feeds a hub. [`BusStore`]: asks the leader what only the database answers.
//! * [`Bus`]: the connection. [`Log`]: what the writer and the edge need of it.

mod answer;
mod append;
mod ask;
mod beat;
mod codec;
mod connect;
mod edge;
mod known;
mod leader_state;
mod log;
mod open;
mod options;
mod outgoing;
mod read;
mod request;
mod space;
mod stream_config;
mod subject;
mod takeover;
mod terms;
mod waiting;
mod watch;
mod whole;
mod wire;
mod writer;

pub use self::options::BusConfig;
pub(crate) use self::{
    answer::answer_questions,
    append::AppendError,
    ask::BusStore,
    beat::{run_beat, send_beat},
    codec::{Backend, Claim, PositionMark},
    connect::{BusError, connect_once},
    edge::{Edge, EdgeSettings},
    leader_state::{LeaderState, LeaderView},
    log::Log,
    open::open,
    options::{BusUrl, InvalidBusUrl},
    request::Bus,
    space::Space,
    stream_config::{Access, StreamConfig},
    takeover::Takeover,
    watch::{LeaderWatch, find_leader},
    writer::{LogWriter, WriterStart},
};

#[cfg(test)]
mod tests;
