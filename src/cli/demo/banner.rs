//! The commands that the demo suggests.

use std::{
    env,
    io::{self, Write},
    net::SocketAddr,
};

use embedded_postgres::Cluster;

/// Prints the commands. A closed stdout does not stop the demo.
pub(super) fn print(cluster: &Cluster, database: &str, http_addr: SocketAddr) {
    let _ = io::stdout().lock().write_all(text(cluster, database, http_addr).as_bytes());
}

fn text(cluster: &Cluster, database: &str, http_addr: SocketAddr) -> String {
    let version = cluster.installation().version();
    let url = cluster.tcp_url(database).unwrap_or_else(|| cluster.url(database));
    let (psql, web) = (psql(cluster), web_host(http_addr));
    let program = program();
    format!(
        "\n\
         Data Stream runs on PostgreSQL {version}. Try each of these in another terminal:\n\n  \
           page       http://{web}/\n  \
           SSE        curl -N http://{web}/sse/crash\n  \
           WebSocket  websocat ws://{web}/ws/type/multiplier\n  \
           terminal   {program} tail --url http://{web}\n  \
           insert     {psql} {url} -c \"insert into rounds (game_id, finished_at, extras) \
         select id, now(), '{{\\\"point\\\": \\\"11.72\\\"}}' from games where slug = 'crash'\"\n\n\
         Ctrl-C stops everything. The rounds are kept for the next start.\n\n"
    )
}

/// `psql` if it is in the PATH, otherwise the path of the one that came with the server.
fn psql(cluster: &Cluster) -> String {
    let installed =
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|p| p.join("psql").exists());
    let own = cluster.installation().bin().join("psql");
    if installed { "psql".to_owned() } else { own.display().to_string() }
}

/// The path of this program, relative to the working directory if possible.
fn program() -> String {
    let (program, folder) = (env::current_exe(), env::current_dir());
    let short = program.ok().map(|program| match folder {
        Ok(folder) => program.strip_prefix(&folder).unwrap_or(&program).display().to_string(),
        Err(_) => program.display().to_string(),
    });
    short.unwrap_or_else(|| "datastream".to_owned())
}

/// `localhost` for a server that listens on every address.
fn web_host(addr: SocketAddr) -> String {
    if addr.ip().is_unspecified() || addr.ip().is_loopback() {
        return format!("localhost:{}", addr.port());
    }
    addr.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_every_address_is_reached_by_localhost() {
        assert_eq!(web_host("0.0.0.0:3000".parse().expect("an address")), "localhost:3000");
        assert_eq!(web_host("[::]:80".parse().expect("an address")), "localhost:80");
        assert_eq!(web_host("192.0.2.7:3000".parse().expect("an address")), "192.0.2.7:3000");
    }
}
