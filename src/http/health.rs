//! `/healthz`, `/readyz` and `/metrics`.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;

use super::{
    AppState, SharedState,
    bus_role::{BusRole, BusState},
    problem::Problem,
};
use crate::{
    access::{Refusal, TokenVerifier},
    config::NodeName,
    ops::{
        phase::Phase,
        telemetry::{
            exposition::Exposition,
            metrics::{ByCertificate, Issued, Listener, Metrics},
        },
    },
    transport::wt::certificate::PublishedCertificate,
};

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
    #[serde(flatten)]
    bus: Option<BusState>,
}

/// The same with the name of the server, for the operator.
#[derive(Serialize)]
struct NodeReady {
    #[serde(flatten)]
    ready: Ready,
    node: String,
}

/// The routes of the public port. With an internal listener, `/metrics` is there alone.
pub(super) fn router(has_internal: bool) -> Router<SharedState> {
    let routes = Router::new().route("/healthz", get(alive)).route("/readyz", get(ready));
    if has_internal { routes } else { routes.route("/metrics", get(public_metrics)) }
}

/// The routes of the internal listener.
pub(super) fn internal_router(node: &NodeName) -> Router<SharedState> {
    let node = node.to_string();
    let ready = |State(state): State<SharedState>| async move {
        let ready = state.readiness().map_err(|problem| problem.on_node(&node))?;
        Ok::<_, Problem>(no_store(NodeReady { ready, node }))
    };
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

async fn alive() -> Response {
    no_store(Alive { status: "ok" })
}

/// Reads the state of the listener instead of sending a query, which would test another connection.
async fn ready(State(state): State<SharedState>) -> Result<Response, Problem> {
    Ok(no_store(state.readiness()?))
}

fn no_store(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, NO_STORE)], Json(body)).into_response()
}

impl AppState {
    fn readiness(&self) -> Result<Ready, Problem> {
        if self.shutdown.is_requested() {
            let stopping = Problem::unavailable("the server is shutting down", 1);
            return Err(stopping.in_phase("stopping"));
        }
        let phase = self.phase.borrow().clone();
        let ready = readiness(&phase, self.metrics.listener_deaf.get() == 1, &self.bus)?;
        if self.verifier.as_ref().is_none_or(TokenVerifier::has_keys) {
            return Ok(ready);
        }
        Err(Problem::unavailable(Refusal::NoKeys.to_string(), 1).in_phase("fetching_keys"))
    }
}

/// The phase as everybody may see it: no address, no user, nothing that the database answered. The
/// log has those.
fn readiness(phase: &Phase, deaf: bool, role: &BusRole) -> Result<Ready, Problem> {
    let bus = role.state();
    let (phase, why) = match phase {
        Phase::Live { since } => {
            let live_for_seconds = since.elapsed().as_secs();
            return Ok(Ready { status: "ready", phase: "live", live_for_seconds, deaf, bus });
        }
        // It takes over when it has to.
        Phase::StandingBy => {
            return Ok(Ready {
                status: "ready",
                phase: "standing_by",
                live_for_seconds: 0,
                deaf,
                bus,
            });
        }
        Phase::CatchingUp => ("catching_up", "catching up with missed rounds"),
        Phase::Connecting { problem } => ("connecting", role.problem(problem.is_some())),
    };
    Err(Problem::unavailable(why, 1).in_phase(phase))
}

/// On the public port, the metrics of all games need a token for all of them.
async fn public_metrics(
    State(state): State<SharedState>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    state.permission_for_all(&headers).await?;
    metrics(State(state), headers).await
}

async fn metrics(
    State(state): State<SharedState>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(advertised) = &state.web_transport {
        set_expiry(&state.metrics, &advertised.certificate.borrow());
    }
    let age = state.verifier.as_ref().map_or(Duration::ZERO, TokenVerifier::keys_age);
    state.metrics.token_keys_age_seconds.set(age.as_secs_f64());
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Exposition::accepted(&accept.collect::<Vec<_>>().join(","));
    let text = state.metrics.encode(format).map_err(|error| {
        tracing::error!(%error, "cannot encode the metrics");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the metrics")
    })?;
    let head = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
    Ok((head, text).into_response())
}

/// Certificates change while the server runs, so the expiry is read at each scrape.
fn set_expiry(metrics: &Metrics, certificate: &PublishedCertificate) {
    // Only a self-signed certificate has a successor that is known already.
    let used = if certificate.next.is_some() { Issued::self_signed } else { Issued::file };
    let label = ByCertificate { listener: Listener::webtransport, source: used };
    let expiry = &metrics.certificate_expiry_timestamp_seconds;
    expiry.get_or_create(&label).set(certificate.not_after.timestamp());
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn only_a_live_listener_is_ready() {
        assert!(readiness(&Phase::Live { since: Instant::now() }, false, &BusRole::None).is_ok());
        for phase in [
            Phase::CatchingUp,
            Phase::Connecting { problem: None },
            Phase::Connecting { problem: Some("refused".into()) },
        ] {
            let response =
                readiness(&phase, false, &BusRole::None).err().expect("not ready").into_response();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{phase:?}");
        }
    }

    #[test]
    fn a_problem_of_the_database_stays_in_the_log() {
        let problem = "cannot connect to postgres://user@db.internal:5432/game".to_owned();
        let refused =
            readiness(&Phase::Connecting { problem: Some(problem) }, false, &BusRole::None);
        let shown = format!("{:?}", refused.err().expect("not ready"));
        assert!(shown.contains("cannot connect to the database"), "{shown}");
        for secret in ["postgres://", "user", "db.internal", "5432", "game"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}
