//! Data Stream: finished game rounds out of PostgreSQL, over WebSocket, SSE and WebTransport.

pub mod backoff;
pub mod capture;
pub mod feed;
pub mod frame;
pub mod http;
pub mod hub;
pub mod round;
pub mod shutdown;
pub mod telemetry;
pub mod topic;
pub mod transport;
