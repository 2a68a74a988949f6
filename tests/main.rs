//! Tests of the product from outside: the real binary, real PostgreSQL, real clients.
//!
//! One module per condition. Each test has its own database; `PG_BIN` selects the PostgreSQL under test.
//! A test may rely only on the contract.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accept_loop;
mod api_documents;
mod attach;
mod attach_again;
mod attach_cases;
mod attach_finished;
mod attach_ids;
mod attach_index;
mod attach_neighbor;
mod attach_plans;
mod attach_publication;
mod attach_renamed;
mod attach_types;
mod attach_writers;
mod cli;
mod connection_limits;
mod credentials;
mod database_damage;
mod database_outage;
mod deployment;
mod directory;
mod doctor;
mod doctor_faults;
mod doctor_rights;
mod doctor_sessions;
mod doctor_web_transport;
mod encodings;
mod env_file;
mod failover;
mod floods;
mod game_database;
mod game_statements;
mod hostile_clients;
mod http_routes;
mod internal_listener;
mod line_ends;
mod lists;
mod long_outages;
mod maintenance;
mod memory;
mod metrics;
mod metrics_format;
mod migrations;
mod nodes;
mod notifications;
mod odd_ids;
mod offline_commands;
mod origins;
mod pgbouncer;
mod proxies;
mod read_only;
mod read_only_skips;
mod request_bodies;
mod restore;
mod resume;
mod resume_many;
mod roles;
mod schema_version;
mod search_path;
mod seed;
mod session_settings;
mod shapes;
mod shutdown;
mod silent_clients;
mod slow_subscribers;
mod statement_log;
mod strangers;
mod stream_sse;
mod stream_ws;
mod subprotocols;
mod tls;
mod token_keys;
mod token_leases;
mod token_settings;
mod tokens;
mod unreadable_rounds;
mod unusual_rounds;
mod voids_and_corrections;
mod webtransport;
mod writers;
