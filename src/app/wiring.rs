//! The values that the parts of the server share.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::{mpsc, watch};

use super::feeder::Feeder;
use crate::{
    access::{CurrentKeys, TokenVerifier},
    config::ServeConfig,
    http::{self, AccessSettings, AdvertisedWebTransport, AppState},
    ops::{
        connection_limiter::{ConnectionLimiter, Limits},
        memory_budget::MemoryBudget,
        phase::Phase,
        shutdown::Shutdown,
        telemetry::metrics::Metrics,
    },
    stream::{
        feed::Feed,
        games::Games,
        hub::{self, Hub, HubSettings, Publisher},
    },
    transport::{
        ShardError, ShardSettings, Shards,
        tls::{TlsAcceptor, TlsFailure},
    },
};

/// The values that the parts of the server share.
pub(super) struct Wiring<'a> {
    pub(super) config: &'a ServeConfig,
    pub(super) shutdown: &'a Shutdown,
    pub(super) metrics: Metrics,
    pub(super) budget: MemoryBudget,
    pub(super) hub: Hub,
    pub(super) games: Games,
    pub(super) feeder: Feeder,
    /// Verifies tokens, if they are on.
    pub(super) verifier: Option<TokenVerifier>,
}

impl<'a> Wiring<'a> {
    pub(super) fn new(
        config: &'a ServeConfig,
        shutdown: &'a Shutdown,
    ) -> anyhow::Result<(Self, Publisher)> {
        let metrics = Metrics::default();
        let access = config.access.as_ref();
        let verifier = access.map(|access| TokenVerifier::start(access, &metrics, shutdown));
        let verifier = verifier.transpose()?;
        let budget = MemoryBudget::new(config.memory, &metrics);
        let (history, replay_bytes) = (config.history, config.resume_bytes);
        let settings = HubSettings { history, replay_bytes, budget: budget.clone() };
        let (hub, publisher) = hub::with_settings(settings, metrics.clone());
        let feeder = Feeder::new(config, &metrics, &budget)?;
        let games = Games::within(&budget);
        let wiring = Self { config, shutdown, metrics, budget, hub, games, feeder, verifier };
        Ok((wiring, publisher))
    }

    pub(super) fn shards(&self) -> anyhow::Result<(Shards, mpsc::Receiver<ShardError>)> {
        let settings = ShardSettings {
            count: self.config.shards,
            heartbeat: self.config.heartbeat,
            grace: self.config.shutdown_grace,
        };
        let keys = self.current_keys();
        Shards::start(settings, &self.hub, &self.budget, &keys, &self.metrics, self.shutdown)
            .context("cannot start the threads of the shards")
    }

    /// TLS with the certificate of the options, if there is one.
    pub(super) fn tls(&self) -> Result<Option<TlsAcceptor>, TlsFailure> {
        let start = |files| TlsAcceptor::start(files, &self.metrics, self.shutdown);
        self.config.tls.clone().map(start).transpose()
    }

    /// The keys by which leases are checked. There is no lease while tokens are off.
    pub(super) fn current_keys(&self) -> CurrentKeys {
        self.verifier.as_ref().map(|verifier| verifier.current_keys().clone()).unwrap_or_default()
    }

    pub(super) fn state(
        &self,
        phase: watch::Receiver<Phase>,
        advertised: Option<AdvertisedWebTransport>,
        settings: http::Settings,
    ) -> anyhow::Result<Arc<AppState>> {
        let limit = usize::try_from(self.config.resume_limit)?;
        let feed = Feed::new(
            self.hub.clone(),
            self.games.clone(),
            self.feeder.store(),
            limit,
            self.budget.clone(),
        );
        self.shutdown.spawn_until_requested(feed.clone().remove_expired());
        let (metrics, shutdown) = (self.metrics.clone(), self.shutdown.clone());
        let state = AppState::new(feed, phase, metrics, shutdown, settings, self.verifier.clone());
        let role = self.feeder.role(&self.config.node);
        Ok(Arc::new(state.advertising(advertised).on_bus(role)))
    }

    pub(super) fn settings(&self, limits: Limits) -> http::Settings {
        http::Settings {
            heartbeat: self.config.heartbeat,
            allowed_origins: self.config.allowed_origins.clone(),
            limiter: ConnectionLimiter::new(limits, self.metrics.clone()),
            trusted_proxies: self.config.trusted_proxies.clone(),
            budget: self.budget.clone(),
            access: self.config.access.as_ref().map(AccessSettings::from).unwrap_or_default(),
            has_internal: self.config.internal_addr.is_some(),
        }
    }
}
