//! `/healthz`, `/readyz` and `/metrics`.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;

use super::{SharedState, problem::Problem};
use crate::ops::phase::Phase;

/// The content type of `Metrics::encode`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// A cached health state is wrong.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

#[derive(Serialize)]
struct Alive {
    status: &'static str,
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    phase: &'static str,
    live_for_seconds: u64,
    /// The connection delivers no notifications, as through a pooler: rounds come by polls only.
    deaf: bool,
}

pub(super) fn router() -> Router<SharedState> {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

async fn alive() -> Response {
    ([(header::CACHE_CONTROL, NO_STORE)], Json(Alive { status: "ok" })).into_response()
}

/// Reads the state of the listener instead of sending a query, which would test another connection.
async fn ready(State(state): State<SharedState>) -> Result<Response, Problem> {
    if state.shutdown.is_requested() {
        return Err(Problem::unavailable("the server is shutting down", 1));
    }
    let phase = state.phase.borrow().clone();
    let body = Json(readiness(&phase, state.metrics.listener_deaf.get() == 1)?);
    Ok(([(header::CACHE_CONTROL, NO_STORE)], body).into_response())
}

/// The phase as everybody may see it: no address, no user, nothing that the database answered. The
/// log has those.
fn readiness(phase: &Phase, deaf: bool) -> Result<Ready, Problem> {
    let (phase, why) = match phase {
        Phase::Live { since } => {
            let live_for_seconds = since.elapsed().as_secs();
            return Ok(Ready { status: "ready", phase: "live", live_for_seconds, deaf });
        }
        Phase::CatchingUp => ("catching_up", "catching up with missed rounds"),
        Phase::Connecting { problem: None } => ("connecting", "connecting to the database"),
        Phase::Connecting { problem: Some(_) } => {
            ("connecting", "cannot connect to the database: see the log of the server")
        }
    };
    Err(Problem::unavailable(why, 1).in_phase(phase))
}

async fn metrics(State(state): State<SharedState>) -> Result<Response, Problem> {
    let text = state.metrics.encode().map_err(|error| {
        tracing::error!(%error, "cannot encode the metrics");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the metrics")
    })?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn only_a_live_listener_is_ready() {
        assert!(readiness(&Phase::Live { since: Instant::now() }, false).is_ok());
        for phase in [
            Phase::CatchingUp,
            Phase::Connecting { problem: None },
            Phase::Connecting { problem: Some("refused".into()) },
        ] {
            let response = readiness(&phase, false).err().expect("not ready").into_response();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{phase:?}");
        }
    }

    #[test]
    fn a_problem_of_the_database_stays_in_the_log() {
        let problem = "cannot connect to postgres://user@db.internal:5432/game".to_owned();
        let refused = readiness(&Phase::Connecting { problem: Some(problem) }, false);
        let shown = format!("{:?}", refused.err().expect("not ready"));
        assert!(shown.contains("cannot connect to the database"), "{shown}");
        for secret in ["postgres://", "user", "db.internal", "5432", "game"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}
