//! The log on NATS JetStream, from which servers without a database get their rounds.
//!
//! One capture node at a time appends rounds to one stream. It names the sequence behind which each
//! append belongs, and has one append in flight: that elects the leader and stops a former one.
//!
//! * [`LogWriter`]: appends, as the leader. [`Takeover`]: what the next leader reads before.
//! * [`Edge`]: fills and feeds a hub. [`BusStore`]: asks the leader what only the database answers.
//! * [`Bus`]: the connection (`nats`). [`Log`]: what the writer and the edge need of it.

mod answer;
mod ask;
mod beat;
mod codec;
mod edge;
mod known;
mod leader_state;
mod log;
mod nats;
mod outgoing;
mod space;
mod subject;
mod takeover;
mod terms;
mod waiting;
mod watch;
mod whole;
mod wire;
mod writer;

pub use self::nats::options::BusConfig;
pub(crate) use self::{
    answer::answer_questions,
    ask::BusStore,
    beat::{run_beat, send_beat},
    codec::{Backend, Claim, PositionMark},
    edge::{Edge, EdgeSettings},
    leader_state::{LeaderState, LeaderView},
    log::Log,
    nats::{
        append::AppendError,
        connect::{BusError, connect_once},
        open::open,
        options::{BusUrl, InvalidBusUrl},
        request::Bus,
        stream_config::{Access, StreamConfig},
    },
    space::Space,
    takeover::Takeover,
    watch::{LeaderWatch, find_leader},
    writer::{LogWriter, WriterStart},
};
// What the modules beside it call by these names.
use self::nats::{append, read, request};

#[cfg(test)]
mod tests;
