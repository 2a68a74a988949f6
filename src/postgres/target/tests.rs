//! Connection strings are resolved as libpq does.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

fn with_env(text: &str, variables: &[(&str, &str)]) -> Result<PgTarget, TargetError> {
    PgTarget::resolve((!text.is_empty()).then_some(text), |wanted| {
        let found = variables.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn target(text: &str) -> PgTarget {
    with_env(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    with_env(text, &[]).expect_err(text).to_string()
}

fn hosts(text: &str) -> Vec<(String, u16)> {
    target(text).hosts.into_iter().map(|host| (host.name, host.port)).collect()
}

#[test]
fn a_url_names_user_password_host_port_and_database() {
    let target = target("postgresql://ada:s%20e%40c@db.example:6432/game%2F1");
    assert_eq!((target.user.as_str(), target.database.as_str()), ("ada", "game/1"));
    assert_eq!((target.hosts[0].name.as_str(), target.hosts[0].port), ("db.example", 6432));
    assert_eq!(target.hosts[0].password, Some(Secret::from("s e@c")));
}

#[test]
fn an_unescaped_at_sign_or_question_mark_in_a_password_is_accepted() {
    let found = target("postgres://ada:p@s?s@h/db");
    assert_eq!(found.hosts[0].password, Some(Secret::from("p@s?s")));
    assert_eq!(found.hosts[0].name, "h");
}

#[test]
fn a_list_of_hosts_is_tried_in_order() {
    let listed = [("host1".to_owned(), 5432), ("host2".to_owned(), 5433)];
    assert_eq!(hosts("postgres://u@host1:5432,host2:5433/db?target_session_attrs=any"), listed);
    assert_eq!(hosts("host=host1,host2 port=5432,5433 user=u"), listed);
    assert_eq!(hosts("postgres://u@[::1]:5433/db"), [("::1".to_owned(), 5433)]);
}

#[test]
fn a_socket_directory_stands_in_the_host_or_in_a_parameter() {
    for text in [
        "postgres://u@%2Frun%2Fpostgresql/db",
        "postgres://u@/db?host=/run/postgresql",
        "postgres:///db?user=u&host=/run/postgresql",
        "host=/run/postgresql dbname=db user=u",
    ] {
        let target = target(text);
        assert_eq!(target.hosts[0].socket(), Some(Path::new("/run/postgresql")), "{text}");
        assert_eq!((target.user.as_str(), target.database.as_str()), ("u", "db"), "{text}");
    }
}

#[test]
fn pairs_take_quotes_escapes_and_spaces_around_the_equals_sign() {
    let target = target(r"host = h  user='a b\'c'  password=x\ y dbname = ''");
    assert_eq!(target.user, "a b'c");
    assert_eq!(target.database, "a b'c", "an empty value counts as absent");
    assert_eq!(target.hosts[0].password, Some(Secret::from("x y")));
}

#[test]
fn parameters_missing_in_the_string_come_from_the_variables() {
    let variables = [
        ("PGHOST", "envhost"),
        ("PGPORT", "6000"),
        ("PGUSER", "envuser"),
        ("PGPASSWORD", "envpass"),
        ("PGDATABASE", "envdb"),
        ("PGSSLMODE", "require"),
        ("PGCONNECT_TIMEOUT", "7"),
        ("PGAPPNAME", "game"),
    ];
    let target = with_env("", &variables).expect("all from variables");
    assert_eq!(target.to_string(), "postgres://envuser@envhost:6000/envdb");
    assert_eq!(target.tls.mode, SslMode::Require);
    assert_eq!(target.connect_timeout, Duration::from_secs(7));
    assert_eq!(target.application_name("query"), "game query");
    let target = with_env("postgres://ada@h/db?sslmode=disable", &variables).expect("mixed");
    assert_eq!(target.to_string(), "postgres://ada@h:6000/db");
    assert_eq!(target.tls.mode, SslMode::Disable);
}

#[test]
fn without_parameters_the_defaults_of_libpq_apply() {
    let target = with_env("postgres:///db", &[("USER", "nobody-knows")]).expect("defaults");
    assert!(!target.user.is_empty());
    assert!(target.hosts[0].name == "localhost" || target.hosts[0].socket().is_some());
    assert_eq!(target.tls.mode, SslMode::Prefer);
    assert_eq!(target.connect_timeout, defaults::CONNECT_TIMEOUT);
    assert_eq!(target.keepalives, Some(defaults::KEEPALIVES));
    assert_eq!(target.application_name("listen"), "datastream listen");
}

#[test]
fn every_parameter_of_the_table_is_understood() {
    for parameter in [
        "sslmode=allow",
        "sslmode=verify-ca&sslrootcert=/ca.pem",
        "sslmode=verify-full&sslrootcert=system",
        "sslcert=/c.pem&sslkey=/k.pem",
        "passfile=/nowhere&gssencmode=prefer&fallback_application_name=x",
        "connect_timeout=3&keepalives=1&keepalives_idle=9&tcp_user_timeout=5000",
        "channel_binding=require&target_session_attrs=read-write&load_balance_hosts=random",
        "ssl=true",
    ] {
        target(&format!("postgres://u@h/db?{parameter}"));
    }
}

#[test]
fn sslmode_means_what_it_means_to_libpq() {
    let mode = |text: &str| target(&format!("host=h user=u {text}")).tls.mode;
    assert_eq!(mode("sslmode=require"), SslMode::Require);
    assert_eq!(mode("sslmode=require sslrootcert=/ca.pem"), SslMode::VerifyCa);
    assert_eq!(mode("sslrootcert=system"), SslMode::VerifyFull);
    assert!(error("host=h sslmode=require sslrootcert=system").contains("verify-full"));
}

#[test]
fn options_become_settings_and_other_switches_are_refused() {
    let target = target("postgres://u@h/db?options=-c%20a.b%3D1%20--work-mem%3D2%20-cc%3Dx%5C%20y");
    let settings: Vec<_> =
        target.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(settings, [("a.b", "1"), ("work_mem", "2"), ("c", "x y")]);
    assert!(error("postgres://u@h/db?options=-d%205").starts_with("`options` must be"));
    assert_eq!(escape_option(r"read committed\"), r"read\ committed\\");
}

#[test]
fn errors_name_the_parameter_and_never_quote_a_secret() {
    assert_eq!(
        error("postgres://u:hush@h/db?schema=x"),
        "unknown connection parameter `schema`. Remove it."
    );
    assert!(error("postgres://u:hush@h/db?sslmode=on").contains("`sslmode` must be disable,"));
    assert!(error("postgres://u:hush@h/db?service=x").contains("`service` is not supported"));
    for text in [
        "postgres://u:hush/x@h/db",
        "postgres://u:12/hush@h/db",
        "postgres://u:hu%sh@h/db",
        "postgres://u:hush@h:port/db",
        "mysql://u:hush@h/db",
        "password='hush",
        "hush",
    ] {
        assert!(!error(text).contains("hush"), "{text}: {}", error(text));
    }
    let error = with_env("host=h", &[("PGPORT", "0")]).expect_err("a port of 0");
    assert!(error.to_string().starts_with("`PGPORT` must be"), "{error}");
}

#[test]
fn the_printed_form_and_the_debug_form_have_no_password() {
    let target = target("postgres://ada:hush@h1,h2:5433/db");
    assert_eq!(target.to_string(), "postgres://ada@h1:5432,h2:5433/db");
    assert!(!format!("{target:?}").contains("hush"));
    let socket = self::target("host=/run/pg user=ada dbname=db").to_string();
    assert_eq!(socket, "postgres://ada@:5432/db?host=/run/pg");
    assert_eq!(hosts(&socket), [("/run/pg".to_owned(), 5432)], "psql reads it back");
}

fn password_file(text: &str, mode: u32) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pgpass");
    fs::write(&file, text).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("mode set");
    let path = file.display().to_string();
    (directory, path)
}

#[test]
fn the_password_file_is_read_by_the_rules_of_libpq() {
    let lines = "# comment\nother:*:*:*:no\nh:5432:db:a\\:da:se\\:cr\\\\et\n\
                 localhost:*:*:u:local\n*:*:*:*:any\n";
    let (_directory, file) = password_file(lines, 0o600);
    let password = |text: &str| {
        let target = with_env(text, &[("PGPASSFILE", &file)]).expect(text);
        target.password(&target.hosts[0])
    };
    assert_eq!(password("host=h user=a:da dbname=db"), Some(Secret::from("se:cr\\et")));
    assert_eq!(password("host=h user=ada dbname=db"), Some(Secret::from("any")));
    assert_eq!(password("host=/run/postgresql user=u"), Some(Secret::from("local")));
    assert_eq!(password("host=h user=ada password=own"), Some(Secret::from("own")));
}

#[test]
fn a_password_file_that_others_can_read_is_ignored() {
    let (_directory, file) = password_file("*:*:*:*:any\n", 0o644);
    let target = with_env("host=h user=u", &[("PGPASSFILE", &file)]).expect("resolved");
    assert_eq!(target.password(&target.hosts[0]), None);
}

#[test]
fn the_password_file_of_the_home_directory_is_found() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join(".pgpass");
    fs::write(&file, "*:*:*:*:any").expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode set");
    let home = home.path().display().to_string();
    let target = with_env("host=h user=u", &[("HOME", &home)]).expect("resolved");
    assert_eq!(target.password(&target.hosts[0]), Some(Secret::from("any")));
    fs::write(&file, "*:*:*:*:rotated").expect("written");
    assert_eq!(target.password(&target.hosts[0]), Some(Secret::from("rotated")));
}
