//! Anybody who can connect to the database may notify our channel: no bytes may fail the decoder.
//!
//! CONTRIBUTING.md says how to run it.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &str| datastream::internals::decode_payload(payload));
