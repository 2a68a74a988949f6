//! Everything about the database except capture: connections, queries, migrations, attached
//! tables, checks and maintenance.

pub(crate) mod attach;
pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod doctor;
pub(crate) mod games;
pub(crate) mod lock_retry;
pub(crate) mod maintenance;
pub(crate) mod migrate;
pub(crate) mod options;
pub(crate) mod pool;
pub(crate) mod pooler;
pub(crate) mod read_only;
pub(crate) mod round_queries;
pub(crate) mod rows;
pub(crate) mod schema_version;
pub(crate) mod session_settings;
pub(crate) mod sql;
pub(crate) mod sqlstate;
pub(crate) mod target;
