//! Data Stream: finished game rounds out of PostgreSQL, over WebSocket, SSE and WebTransport.

pub mod backoff;
pub mod capture;
pub mod demo;
pub mod embedded_postgres;
pub mod feed;
pub mod frame;
pub mod hub;
pub mod round;
pub mod shutdown;
pub mod telemetry;
pub mod topic;
