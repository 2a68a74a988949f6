//! NATS: the connection, the requests to JetStream's API, and the log made of them. No other module
//! of the bus sends a request to JetStream.

pub(super) mod append;
pub(super) mod connect;
pub(super) mod open;
pub(super) mod options;
pub(super) mod read;
pub(super) mod request;
pub(super) mod stream_config;
