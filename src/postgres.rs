//! The database side that is not the live stream: connections, queries, migrations, attaching
//! tables, checks and maintenance.

pub mod attach;
pub mod check;
pub mod client;
pub mod connection;
pub mod doctor;
pub(crate) mod lock_retry;
pub mod maintenance;
pub mod migrate;
pub mod options;
pub mod pool;
pub(crate) mod pooler;
pub mod read_only;
pub mod round_queries;
pub(crate) mod rows;
pub mod target;
