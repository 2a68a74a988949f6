//! For tests: a PostgreSQL with TLS, with roles for encrypted and for plain connections.
//!
//! The PEM files are for tests only: an authority without its key, another authority, and a
//! certificate of the first one for `localhost`, valid for a hundred years:
//! `openssl req -x509 -newkey ec …`, `openssl x509 -req -CA ca.pem -days 36500 …`.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Command,
    time::Duration,
};

use super::PgTarget;
use embedded_postgres::{Cluster, Installation, Settings};

const RULES: &str = "\
local all all trust
hostssl all encrypted 127.0.0.1/32 trust
hostnossl all plain 127.0.0.1/32 trust
host all secret 127.0.0.1/32 scram-sha-256
host all postgres 127.0.0.1/32 trust
";
const CERTIFICATES: [(&str, &str); 4] = [
    ("ca.pem", include_str!("test_server/ca.pem")),
    ("other.pem", include_str!("test_server/other.pem")),
    ("server.pem", include_str!("test_server/server.pem")),
    ("server.key", include_str!("test_server/server.key")),
];

/// Role, host and parameters, and whether the connection is encrypted or a part of the error.
pub(crate) const SSLMODES: &[(&str, &str, &str, Result<bool, &str>)] = &[
    ("postgres", "localhost", "sslmode=disable", Ok(false)),
    ("encrypted", "localhost", "sslmode=disable", Err("no encryption")),
    ("encrypted", "localhost", "sslmode=allow", Ok(true)),
    ("encrypted", "localhost", "sslmode=prefer", Ok(true)),
    ("plain", "localhost", "sslmode=allow", Ok(false)),
    ("plain", "localhost", "sslmode=prefer", Ok(false)),
    ("plain", "localhost", "sslmode=require", Err("pg_hba.conf")),
    ("encrypted", "127.0.0.1", "sslmode=require", Ok(true)),
    ("encrypted", "127.0.0.1", "sslmode=require&sslrootcert={ca}", Ok(true)),
    ("encrypted", "localhost", "sslmode=require&sslrootcert={other}", Err("sslrootcert=FILE")),
    ("encrypted", "127.0.0.1", "sslmode=verify-ca&sslrootcert={ca}", Ok(true)),
    ("encrypted", "localhost", "sslmode=verify-ca&sslrootcert={other}", Err("UnknownIssuer")),
    ("encrypted", "localhost", "sslmode=verify-full&sslrootcert={ca}", Ok(true)),
    ("encrypted", "127.0.0.1", "sslmode=verify-full&sslrootcert={ca}", Err("not valid for name")),
    ("encrypted", "localhost", "sslmode=verify-full&sslrootcert={other}", Err("UnknownIssuer")),
    ("encrypted", "localhost", "sslmode=verify-full&sslrootcert=/none.pem", Err("No such file")),
];

/// A running server with the roles `encrypted`, `plain` and `secret` (password `hush`).
pub(crate) struct TestServer {
    cluster: Cluster,
    port: u16,
    folder: tempfile::TempDir,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // If the tests run as root, the server's user must be able to enter it.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("open to the server's user");
        let port = free_port();
        let settings = ["ssl=on", "ssl_cert_file=server.pem", "ssl_key_file=server.key"];
        let settings = settings.map(|line| line.split_once('=').expect("a setting"));
        let extra = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let settings = Settings { durable: false, tcp_port: Some(port), extra };
        let installation = Installation::find().expect("PostgreSQL is installed");
        let data = folder.path().join("data");
        let mut cluster =
            Cluster::create_or_open(installation, &data, settings).expect("a cluster");
        prepare(&data);
        cluster.start().expect("started");
        make_roles(&cluster);
        Self { cluster, port, folder }
    }

    /// A target by TCP; `{ca}` and `{other}` in the parameters become the authorities' files.
    pub(crate) fn target(&self, role: &str, host: &str, parameters: &str) -> PgTarget {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let parameters =
            parameters.replace("{ca}", &file("ca.pem")).replace("{other}", &file("other.pem"));
        let port = self.port;
        target(&format!("postgres://{role}@{host}:{port}/postgres?{parameters}"))
    }

    /// The superuser, over the socket.
    pub(crate) fn superuser(&self) -> PgTarget {
        target(&self.cluster.url("postgres"))
    }
}

/// A server that accepts connections and sends nothing.
pub(crate) fn silent() -> (TcpListener, PgTarget) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut target = target(&format!("postgres://u@127.0.0.1:{port}/db"));
    target.connect_timeout = Duration::from_millis(200);
    (listener, target)
}

fn target(url: &str) -> PgTarget {
    PgTarget::resolve(Some(url), |_| None).expect(url)
}

fn prepare(data: &Path) {
    let owner = fs::metadata(data).expect("a data directory");
    fs::write(data.join("pg_hba.conf"), RULES).expect("rules");
    for (name, text) in CERTIFICATES {
        let file = data.join(name);
        fs::write(&file, text).expect("a certificate");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("for its owner");
        chown(&file, Some(owner.uid()), Some(owner.gid())).expect("for the server");
        fs::write(data.parent().expect("a folder").join(name), text).expect("a copy for us");
    }
}

fn make_roles(cluster: &Cluster) {
    let roles = "create role encrypted login; create role plain login; \
                 create role secret login password 'hush'";
    let psql = cluster.installation().bin().join("psql");
    let psql = Command::new(psql).args(["-qXd", &cluster.url("postgres"), "-c", roles]).status();
    assert!(psql.expect("psql").success());
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
