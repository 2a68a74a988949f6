//! Data Stream: finished game rounds out of PostgreSQL, over WebSocket, SSE and WebTransport.

pub mod app;
pub mod backoff;
pub mod capture;
pub mod cli;
pub mod config;
pub mod database;
pub mod demo;
pub mod embedded_postgres;
pub mod feed;
pub mod frame;
pub mod games;
pub mod history;
pub mod http;
pub mod hub;
pub mod maintenance;
pub mod migrate;
pub mod pg_target;
pub mod replay;
pub mod round;
pub mod shutdown;
pub mod tail;
pub mod telemetry;
pub mod topic;
pub mod transport;
