//! Runs a command, and stops it on a signal.

use std::{
    future::Future,
    io::{self, Write},
};

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    Cli, Command, DemoOptions, Environment, Failure, MigrateOptions, documents,
    failure::note_unprinted, health, settings, unknown_variables,
};
use crate::{
    app::{self, App, CaptureApp},
    cli::{
        bus,
        demo::{self, DemoConfig, Serving, cluster, cluster::ClusterConfig},
        doctor::{self, DoctorOptions},
        tail,
    },
    config::{
        RoundSource, ServeConfig,
        options::{CaptureOptions, ServeOptions, ServerOptions},
    },
    ops::{build_info, shutdown::Shutdown, telemetry::logs},
    postgres::{
        attach::{self, AttachError, AttachOptions, Report, suggest},
        check::Status,
        migrate::{self, MigrateReport, Tables},
        options::{DatabaseConfig, DatabaseOptions},
        target::PgTarget,
    },
};

/// Sets up logging, TLS and the runtime, and runs the command.
pub fn run(cli: Cli, environment: &Environment) -> Result<(), Failure> {
    if let Some(error) = &environment.file.error {
        return Err(Failure::usage(error));
    }
    let command = cli.command.unwrap_or_else(|| Command::Serve(Box::new(cli.serve)));
    let filter = match &command {
        Command::Migrate(_) => migrate::LOG_FILTER,
        Command::Doctor(_) => doctor::LOG_FILTER,
        Command::Attach(_) | Command::Detach(_) => attach::LOG_FILTER,
        Command::Tail(_) => tail::LOG_FILTER,
        Command::Bus(_) => bus::LOG_FILTER,
        _ => logs::DEFAULT_FILTER,
    };
    // Dropped last: it writes what was logged just before the end.
    let _log = logs::init(cli.logs.log_format, filter).map_err(|error| Failure::usage(&error))?;
    let file = environment.file.warning.iter().cloned();
    let warnings = file.chain(unknown_variables::warnings());
    warnings.for_each(|warning| tracing::warn!("{warning}"));
    // Needed before the first handshake. An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some(outcome) = run_offline(&command, environment) {
        return outcome;
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let shutdown = Shutdown::default();
    let outcome = runtime.block_on(until_stopped(run_command(command, &shutdown), &shutdown));
    // The tasks that still run had their grace period: do not wait for them.
    runtime.shutdown_background();
    outcome
}

/// Runs a command that needs neither a runtime nor a database. `None`: it is not such a command.
fn run_offline(command: &Command, environment: &Environment) -> Option<Result<(), Failure>> {
    match command {
        Command::Roles => documents::print_roles(),
        Command::Config(options) => return Some(settings::print(options, environment)),
        Command::Health(options) => return Some(health::check(options)),
        Command::Completions(options) => documents::print_completions(options),
        Command::Man(options) => return Some(documents::write_man(options)),
        _ => return None,
    }
    Some(Ok(()))
}

async fn run_command(command: Command, shutdown: &Shutdown) -> Result<(), Failure> {
    match command {
        Command::Serve(options) => serve(*options, shutdown).await,
        Command::Capture(options) => capture(*options, shutdown).await,
        Command::Bus(command) => bus::run(*command).await,
        Command::Migrate(options) => tokio::select! {
            outcome = migrate_database(&options) => outcome,
            // Each migration is a transaction: nothing needs cleaning up.
            () = shutdown.requested() => Err(anyhow!(
                "stopped by a signal: the current migration is rolled back. Run migrate again."
            ).into()),
        },
        Command::Attach(options) => {
            let target = listen_target(&options.database)?;
            if let Some(table) = &options.suggest {
                let suggestions = suggest::suggest(&target, table.as_deref()).await?;
                suggest::as_lines(&suggestions).iter().for_each(|line| print_line(line));
                return Ok(());
            }
            let attached = print_report(attach_table(&target, &options), shutdown).await;
            attached.map_err(|error| error.context(format!("cannot attach {}", options.table)))
        }
        Command::Detach(options) => {
            let target = listen_target(&options.database)?;
            let detached = print_report(attach::detach(&target, &options), shutdown).await;
            detached.map_err(|error| error.context(format!("cannot detach {}", options.table)))
        }
        Command::Doctor(options) => run_doctor(&options).await,
        Command::Demo(options) => run_demo(*options, shutdown).await,
        Command::Tail(options) => Ok(tail::run(options, shutdown).await?),
        // They have run already.
        Command::Roles
        | Command::Config(_)
        | Command::Health(_)
        | Command::Completions(_)
        | Command::Man(_) => Ok(()),
    }
}

async fn serve(options: ServeOptions, shutdown: &Shutdown) -> Result<(), Failure> {
    let config = options.resolve(env_variable).map_err(|error| Failure::usage(&error))?;
    log_start(&config);
    let app = App::bind(config).map_err(unusable_files)?;
    Box::pin(app.run(shutdown.clone())).await.map_err(unusable_files)
}

async fn capture(options: CaptureOptions, shutdown: &Shutdown) -> Result<(), Failure> {
    let config = options.resolve(env_variable).map_err(|error| Failure::usage(&error))?;
    let (version, revision) = (build_info::VERSION, build_info::REVISION);
    let (database, bus) = (&config.database.target, &config.bus.url);
    tracing::info!(version, revision, node = %config.node, %database, %bus, "starting a capture node");
    Ok(Box::pin(CaptureApp::bind(config)?.run(shutdown.clone())).await?)
}

/// Keys and certificates that cannot be read at the start are bad configuration.
fn unusable_files(error: anyhow::Error) -> Failure {
    match app::unusable_files(&error) {
        Some(message) => Failure::Usage(message),
        None => error.into(),
    }
}

async fn migrate_database(options: &MigrateOptions) -> Result<(), Failure> {
    let target = listen_target(&options.database)?;
    if options.revert {
        let report = migrate::revert(&target).await?;
        print_migrations(&report, "reverted", "no migrations to revert");
        return Ok(());
    }
    let tables = if options.no_tables { Tables::Skip } else { Tables::Create };
    let report = migrate::run(&target, tables).await?;
    print_migrations(&report, "applied", "up to date");
    if let Some(mode) = options.capture {
        for (table, mode) in attach::set_capture(&target, mode).await? {
            print_line(&format!("{table}: capture is {mode}"));
        }
    }
    Ok(())
}

/// Attaches, and creates the schema first if it is missing and the mapping has no problem. It creates no `public.games` and
/// `public.rounds`: this game has its own tables.
async fn attach_table(target: &PgTarget, options: &AttachOptions) -> Result<Report, Failure> {
    match attach::attach(target, options, print_line).await {
        Err(AttachError::NoSchema) if options.dry_run => {
            Ok(attach::plan_with_schema(target, options, &migrate::script()).await?)
        }
        Err(AttachError::NoSchema) => {
            attach::check_with_schema(target, options, &migrate::script()).await?;
            let report = migrate::run(target, Tables::Skip).await?;
            print_migrations(&report, "applied", "up to date");
            Ok(attach::attach(target, options, print_line).await?)
        }
        outcome => Ok(outcome?),
    }
}

/// Attaches or detaches, and prints what changed. Each attempt is a transaction: a stopped one
/// changes nothing.
async fn print_report<E: Into<Failure>>(
    work: impl Future<Output = Result<Report, E>>,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let report = tokio::select! {
        report = work => report.map_err(Into::into)?,
        () = shutdown.requested() => {
            return Err(anyhow!("stopped by a signal. Run the command again to finish it.").into());
        }
    };
    match report {
        Report::Plan(sql) => print_line(sql.trim_end()),
        Report::Done(lines) if lines.is_empty() => print_line("No changes needed."),
        Report::Done(lines) => lines.iter().for_each(|line| print_line(line)),
    }
    Ok(())
}

/// Prints the findings. The command fails if a check failed.
async fn run_doctor(options: &DoctorOptions) -> Result<(), Failure> {
    let config = options.database.resolve(env_variable).map_err(|error| Failure::usage(&error))?;
    let config = config.with_max_round(options.max_round);
    let web_transport = options.web_transport.clone().resolve();
    let web_transport = web_transport.map_err(|error| Failure::usage(&error))?;
    let bus = bus::resolve(options.bus.clone())?;
    let report = doctor::examine(&config, bus.as_ref(), web_transport.as_ref(), options).await;
    if options.json {
        print_line(&serde_json::to_string_pretty(&report)?);
    } else {
        report.checks.iter().for_each(|check| print_line(&check.to_string()));
    }
    if report.ok {
        return Ok(());
    }
    let failed = report.checks.iter().filter(|check| check.status == Status::Failed);
    Err(anyhow!("{} of {} checks failed", failed.count(), report.checks.len()).into())
}

/// The database without a pooler in between, for work that needs a session.
fn listen_target(options: &DatabaseOptions) -> Result<PgTarget, Failure> {
    Ok(options.resolve(env_variable).map_err(|error| Failure::usage(&error))?.listen)
}

async fn run_demo(options: DemoOptions, shutdown: &Shutdown) -> Result<(), Failure> {
    let config = DemoConfig {
        data_dir: std::path::absolute(&options.data_dir).context("--data-dir")?,
        speed: options.speed,
        postgres_port: options.postgres_port,
    };
    let (server, data_dir) = (options.server, config.data_dir.clone());
    let cluster = options.cluster.then_some(ClusterConfig {
        data_dir,
        nats_server: options.nats_server,
        http_addr: server.http.http_addr,
    });
    let bind = |url: String| async move {
        match cluster {
            Some(cluster) => cluster::bind(url, cluster, shutdown.clone()).await,
            None => bind_demo(&url, server, shutdown),
        }
    };
    let migrate = |url: String| async move {
        migrate::run(&demo_target(&url)?, Tables::Create).await?;
        anyhow::Ok(())
    };
    Ok(demo::run(config, shutdown.clone(), migrate, bind).await?)
}

fn bind_demo(url: &str, server: ServerOptions, shutdown: &Shutdown) -> anyhow::Result<Serving> {
    let target = demo_target(url)?;
    let config =
        server.resolve(RoundSource::database(DatabaseConfig { listen: target.clone(), target }))?;
    log_start(&config);
    let app = App::bind(config)?;
    Ok(Serving { http_addr: app.http_addr(), run: Box::pin(app.run(shutdown.clone())) })
}

/// The demo's own cluster. The `PG*` variables may name another one and are ignored.
fn demo_target(url: &str) -> anyhow::Result<PgTarget> {
    Ok(PgTarget::resolve(Some(url), |_| None)?)
}

fn log_start(config: &ServeConfig) {
    let (version, revision) = (build_info::VERSION, build_info::REVISION);
    let node = &config.node;
    match &config.source {
        RoundSource::Database { database: DatabaseConfig { target, listen }, .. } => {
            tracing::info!(version, revision, %node, database = %target, %listen, "starting");
        }
        RoundSource::Bus(edge) => {
            tracing::info!(version, revision, %node, bus = %edge.bus.url, "starting an edge");
        }
    }
    match &config.access {
        None => tracing::info!("every client may listen: no keys for tokens are set"),
        Some(access) => tracing::info!(keys = %access.keys, "clients need a token"),
    }
}

pub(super) fn env_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn print_migrations(report: &MigrateReport, changed: &str, unchanged: &str) {
    for migration in &report.changed {
        print_line(&format!("{changed} {migration}"));
    }
    if report.changed.is_empty() {
        print_line(&format!("{unchanged}: {} migrations are applied", report.applied));
    }
}

/// Prints a line. If that fails, the [exit status](super::failure::exit_code) says it.
pub(super) fn print_line(line: &str) {
    print(format!("{line}\n").as_bytes());
}

/// Prints text. If that fails, the [exit status](super::failure::exit_code) says it.
pub(super) fn print(text: &[u8]) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(text).and_then(|()| stdout.flush()) {
        note_unprinted(error);
    }
}

/// Runs the work. The first signal requests a stop, the second one abandons the work.
async fn until_stopped(
    work: impl Future<Output = Result<(), Failure>>,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    tokio::pin!(work);
    tokio::select! {
        outcome = &mut work => return outcome,
        name = signals.next() => tracing::info!("{name}: stopping; a second {name} stops at once"),
    }
    shutdown.request();
    tokio::select! {
        outcome = work => outcome,
        name = signals.next() => Err(anyhow!("stopped at once by a second {name}").into()),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
