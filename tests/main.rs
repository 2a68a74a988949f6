//! The product as its users meet it: the real binary, real PostgreSQL, real clients.
//!
//! One module per condition. Each test has a database of its own; `PG_BIN` chooses the PostgreSQL
//! under test. A test may rely on nothing but the contract.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attach;
mod attach_again;
mod attach_cases;
mod attach_index;
mod attach_publication;
mod attach_renamed;
mod attach_types;
mod attach_writers;
mod cli;
mod database_damage;
mod database_outage;
mod deployment;
mod doctor;
mod doctor_faults;
mod doctor_rights;
mod doctor_sessions;
mod doctor_web_transport;
mod door;
mod failover;
mod game_database;
mod game_goes_on;
mod hostile_clients;
mod http_routes;
mod long_outages;
mod maintenance;
mod metrics;
mod migrations;
mod nodes;
mod notifications;
mod odd_rounds;
mod pgbouncer;
mod read_only;
mod restore;
mod resume;
mod resume_many;
mod roles;
mod schema_version;
mod search_path;
mod seed;
mod shutdown;
mod slow_subscribers;
mod strangers;
mod stream_sse;
mod stream_ws;
mod webtransport;
mod writers;
