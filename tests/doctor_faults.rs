//! `datastream doctor` on a game's own database: faults planted one after the other,
//! each told with what to do about it, and gone when that is done.

use std::{net::UdpSocket, path::Path};

use serde_json::Value;
use wtransport::Identity;

use crate::support::{
    DedicatedCluster, TestDatabase, TestServer, WsClient,
    binary::{Output, datastream},
    eventually,
};

const GAME: &str = "create schema game; \
    create table game.titles (id bigint primary key, code text, title text, kind text); \
    insert into game.titles values (1, 'crash', 'Crash', 'multiplier'); \
    create table game.results (result_id bigint generated always as identity primary key, \
      title_id bigint, ended_at timestamptz, payload jsonb)";

const ATTACH: &str = "attach --table game.results --id result_id --finished-at ended_at \
    --extras payload --game-id title_id --games game.titles --games-slug code --games-name title \
    --games-type kind --index --replace";

/// A function of the server that says something else in this database, as long as it is so.
macro_rules! pretended {
    ($function:literal) => {
        concat!(
            "create schema late; create function late.",
            $function,
            "; do $$ begin execute format('alter database %I set search_path = late, pg_catalog', \
             current_database()); end $$"
        )
    };
}

const NO_LONGER_PRETENDED: &str = "drop schema late cascade; \
    do $$ begin execute format('alter database %I reset search_path', current_database()); end $$";

/// What is planted, what is said of it, and what undoes it: SQL, or a command of the program.
struct Fault {
    plant: &'static str,
    check: &'static str,
    status: &'static str,
    says: &'static str,
    remedy: &'static str,
    cure: &'static str,
}

const FAULTS: [Fault; 14] = [
    Fault {
        plant: "alter table game.results disable trigger datastream_updated",
        check: "attached",
        status: "failed",
        says: "trigger datastream_updated on game.results does not fire",
        remedy: "alter table game.results enable trigger datastream_updated",
        cure: "alter table game.results enable trigger datastream_updated",
    },
    Fault {
        plant: "drop trigger datastream_inserted on game.results",
        check: "attached",
        status: "failed",
        says: "no trigger datastream_inserted",
        remedy: "attach again with the same options",
        cure: ATTACH,
    },
    Fault {
        plant: "alter table game.results rename payload to load",
        check: "attached",
        status: "failed",
        says: "no column payload",
        remedy: "attach again with the new name and --replace",
        cure: "alter table game.results rename load to payload",
    },
    Fault {
        plant: "insert into game.titles values (2, 'crash', 'Crash too', 'multiplier')",
        check: "games",
        status: "warning",
        says: "2 games have the slug crash",
        remedy: "give each game a slug of its own",
        cure: "update game.titles set code = 'crash2' where id = 2",
    },
    Fault {
        plant: "do $$ begin execute (select 'drop index game.datastream_latest_' || id \
            from datastream.attached where relation = 'game.results'); end $$; \
            insert into game.results (title_id) select 1 from generate_series(1, 20000); \
            analyze game.results",
        check: "index",
        status: "warning",
        says: "game.results: no index for seeds",
        remedy: "--index",
        cure: ATTACH,
    },
    Fault {
        plant: "update datastream.attached set attached_at = now() - interval '1 hour'; \
            begin; set local datastream.skip = 'on'; insert into game.results (title_id, ended_at) \
            values (1, now() - interval '1 minute'); commit",
        check: "recorded",
        status: "warning",
        says: "1 rounds of the last ten minutes are not in the outbox",
        remedy: "serve finds these rounds within a minute",
        cure: "select datastream.reconcile('0')",
    },
    Fault {
        plant: "insert into datastream.outbox (xid, round_id, at) \
            values ('3', 1, now() - interval '5 days')",
        check: "outbox",
        status: "warning",
        says: "5 days",
        remedy: "It trims the outbox each minute",
        cure: "select datastream.trim('1 day', 1000)",
    },
    Fault {
        plant: "select datastream.attach('game.results', id => 'result_id', \
            finished_at => 'ended_at', extras => 'payload', game_id => 'title_id', \
            games => 'game.titles', games_slug => 'code', games_name => 'title', \
            games_type => 'kind', capture => 'notify', replace => true)",
        check: "prepared",
        status: "warning",
        says: "PREPARE TRANSACTION fails where a round was finished",
        remedy: "datastream migrate --capture poll",
        cure: "migrate --capture poll",
    },
    Fault {
        plant: "update datastream.attached set capture = 'notify'; \
            insert into datastream.outbox (round_id) select generate_series(1, 13000)",
        check: "capture",
        status: "warning",
        says: "capture is notify",
        remedy: "datastream migrate --capture",
        cure: "migrate --capture poll",
    },
    Fault {
        plant: pretended!(
            "clock_timestamp() returns timestamptz language sql \
             as 'select pg_catalog.clock_timestamp() + interval ''90 s'''"
        ),
        check: "clock",
        status: "warning",
        says: "s apart",
        remedy: "run an NTP client on both",
        cure: NO_LONGER_PRETENDED,
    },
    Fault {
        plant: pretended!(
            "current_setting(name text) returns text language sql \
             as 'select case name when ''server_version_num'' then ''150015'' \
               when ''server_version'' then ''15.15'' else pg_catalog.current_setting(name) end'"
        ),
        check: "version",
        status: "warning",
        says: "PostgreSQL 15.15",
        remedy: "install the latest minor release",
        cure: NO_LONGER_PRETENDED,
    },
    Fault {
        plant: pretended!(
            "current_setting(name text) returns text language sql \
             as 'select case name when ''server_version_num'' then ''120022'' \
               when ''server_version'' then ''12.22'' else pg_catalog.current_setting(name) end'"
        ),
        check: "version",
        status: "failed",
        says: "PostgreSQL 12.22",
        remedy: "use PostgreSQL 13 or later",
        cure: NO_LONGER_PRETENDED,
    },
    Fault {
        plant: pretended!(
            "pg_notification_queue_usage() returns double precision language sql \
             as 'select 0.125::double precision'"
        ),
        check: "queue",
        status: "warning",
        says: "12.5 % full",
        remedy: "end the session that does not read",
        cure: NO_LONGER_PRETENDED,
    },
    Fault {
        plant: "alter table datastream.outbox rename to elsewhere",
        check: "schema",
        status: "failed",
        says: "missing: datastream.outbox",
        remedy: "run: datastream migrate",
        cure: "alter table datastream.elsewhere rename to outbox",
    },
];

async fn run(url: &str, words: &str, more: &[&str]) -> Output {
    let words: Vec<&str> = words.split_whitespace().chain(more.iter().copied()).collect();
    datastream(&words).env("DATABASE_URL", url).run().await
}

/// The lines of one check: status, text, remedy.
async fn lines(url: &str, check: &str, more: &[&str]) -> Vec<[String; 3]> {
    let output = run(url, "doctor --json", more).await;
    let report: Value = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", output.stdout, output.stderr));
    let checks = report["checks"].as_array().expect("checks").clone();
    let of_it = checks.iter().filter(|line| line["name"] == check);
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    of_it.map(|line| ["status", "says", "remedy"].map(|key| text(line, key))).collect()
}

#[track_caller]
fn assert_told(lines: &[[String; 3]], status: &str, says: &str, remedy: &str) {
    let told = lines
        .iter()
        .any(|[s, t, r]| s == status && t.contains(says) && r.contains(remedy) && !r.is_empty());
    assert!(told, "{status} {says} {remedy} in {lines:?}");
}

#[track_caller]
fn assert_well(lines: &[[String; 3]], check: &str) {
    assert!(!lines.is_empty() && lines.iter().all(|[s, ..]| s == "ok"), "{check}: {lines:?}");
}

async fn carry_out(database: &TestDatabase, what: &str) {
    if what.starts_with("attach") || what.starts_with("migrate") {
        let output = run(&database.url(), what, &[]).await;
        assert_eq!(output.code, Some(0), "{what}: {}", output.stderr);
    } else {
        database.run(what).await;
    }
}

async fn game(address: &crate::support::cluster::Address) -> TestDatabase {
    let database = TestDatabase::on(address).await;
    database.run("select datastream.detach('public.rounds'); drop table rounds, games").await;
    database.run(GAME).await;
    carry_out(&database, ATTACH).await;
    database
}

#[tokio::test]
async fn each_fault_is_told_with_its_remedy_and_is_gone_after_it() {
    let cluster = DedicatedCluster::start_with(&[("max_prepared_transactions", "2")]);
    let database = game(&cluster.address()).await;
    let url = database.url();
    for fault in &FAULTS {
        assert_well(&lines(&url, fault.check, &[]).await, fault.check);
        database.run(fault.plant).await;
        let told = lines(&url, fault.check, &[]).await;
        assert_told(&told, fault.status, fault.says, fault.remedy);
        carry_out(&database, fault.cure).await;
        if fault.check != "capture" {
            assert_well(&lines(&url, fault.check, &[]).await, fault.check);
        }
    }
    let output = run(&url, "doctor", &[]).await;
    assert_eq!(output.code, Some(0), "{}", output.stdout);
}

#[tokio::test]
async fn a_bell_that_a_forgotten_transaction_keeps_is_told() {
    let database = TestDatabase::new().await;
    assert_well(&lines(&database.url(), "transactions", &[]).await, "transactions");
    let mut forgotten = database.pool.acquire().await.expect("a connection");
    let ring =
        "begin; insert into rounds (game_id, finished_at) select id, now() from games limit 1";
    sqlx::raw_sql(ring).execute(&mut *forgotten).await.expect("an open transaction");
    let url = database.url();
    eventually("a transaction that is old enough", || async {
        let told = lines(&url, "transactions", &[]).await;
        let [status, says, remedy] = &told[0];
        (status == "warning" && says.contains("has rung the bell") && !remedy.is_empty())
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_stays_open_is_told_with_what_ends_it() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let mut forgotten = database.pool.acquire().await.expect("a connection");
    sqlx::raw_sql("set application_name = 'forgotten'; begin; select count(*) from rounds")
        .execute(&mut *forgotten)
        .await
        .expect("an open transaction");
    assert_well(&lines(&url, "transactions", &[]).await, "transactions");
    let later = pretended!(
        "clock_timestamp() returns timestamptz language sql \
         as 'select pg_catalog.clock_timestamp() + interval ''301 s'''"
    );
    database.run(later).await;
    let told = lines(&url, "transactions", &[]).await;
    assert_told(&told, "warning", "forgotten, idle in transaction) is in a transaction since", "");
    let remedy = told[0][2].strip_prefix("end it: ").expect("a statement");
    database.run(remedy).await;
    drop(forgotten.detach());
    eventually("the end of the transaction", || async {
        let told = lines(&url, "transactions", &[]).await;
        told.iter().all(|[status, ..]| status == "ok").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_with_few_connections_left_is_told() {
    let cluster = DedicatedCluster::start_with(&[("max_connections", "20")]);
    let database = game(&cluster.address()).await;
    let url = database.url();
    assert_well(&lines(&url, "connections", &[]).await, "connections");
    let mut taken = Vec::new();
    for _ in 0..8 {
        taken.push(database.pool.acquire().await.expect("a connection"));
    }
    let told = lines(&url, "connections", &[]).await;
    assert_told(&told, "warning", "of 20 connections are free", "raise max_connections");
    let ended = taken.into_iter().map(|connection| connection.close());
    futures_util::future::join_all(ended).await;
    eventually("the sessions to be gone", || async {
        let told = lines(&url, "connections", &[]).await;
        told.iter().all(|[status, ..]| status == "ok").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_logical_subscription_is_told_and_its_rounds_are_streamed_after_the_remedy() {
    let cluster = DedicatedCluster::start_with(&[("wal_level", "logical")]);
    let (publisher, database) = (game(&cluster.address()).await, game(&cluster.address()).await);
    let url = database.url();
    assert_well(&lines(&url, "subscriber", &[]).await, "subscriber");
    publisher.run("create publication rounds for table game.results").await;
    publisher.run("select pg_create_logical_replication_slot('rounds', 'pgoutput')").await;
    let subscribe = format!(
        "create subscription rounds connection 'host=127.0.0.1 port={} user=postgres dbname={}' \
         publication rounds with (create_slot = false, copy_data = false)",
        cluster.address().tcp_port,
        publisher.name
    );
    database.run(&subscribe).await;
    let told = lines(&url, "subscriber", &[]).await;
    for trigger in ["datastream_inserted", "datastream_updated"] {
        let says = format!("trigger {trigger} does not fire");
        assert_told(&told, "warning", &says, "attach --table 'game.results'");
    }
    carry_out(&database, ATTACH).await;
    assert_well(&lines(&url, "subscriber", &[]).await, "subscriber");
    let server = TestServer::on(&url).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    publisher.run("insert into game.results (title_id, ended_at) values (1, now())").await;
    assert_eq!(client.next_round().await.round_id, 1);
    publisher.run("insert into game.results (title_id) values (1)").await;
    publisher.run("update game.results set ended_at = now() where ended_at is null").await;
    assert_eq!(client.next_round().await.round_id, 2);
    let attached = run(&url, "migrate --capture poll", &[]).await;
    assert_eq!(attached.code, Some(0), "{}", attached.stderr);
    publisher.run("insert into game.results (title_id, ended_at) values (1, now())").await;
    assert_eq!(client.next_round().await.round_id, 3);
    // A subscription keeps its database and its publisher's slot.
    database.run("drop subscription rounds").await;
}

#[tokio::test]
async fn a_standby_is_told() {
    let primary = DedicatedCluster::start();
    let database = TestDatabase::on(&primary.address()).await;
    let standby = DedicatedCluster::standby_of(&primary);
    let url = standby.address().url(&database.name);
    let told = lines(&url, "primary", &[]).await;
    assert_told(&told, "failed", "standby", "target_session_attrs=read-write");
}

#[tokio::test]
async fn a_udp_port_that_is_taken_or_not_of_this_machine_is_told() {
    let database = TestDatabase::new().await;
    let url = database.url();
    assert_well(&lines(&url, "webtransport", &[]).await, "webtransport");
    let on = |addr: &str| ["--wt-enabled".to_owned(), format!("--wt-addr={addr}")];
    let look = async |addr: &str| {
        let [one, two] = on(addr);
        lines(&url, "udp", &[&one, &two]).await
    };
    assert_well(&look("127.0.0.1:0").await, "udp");
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    assert_told(&look(&addr).await, "warning", "in use", "another DATASTREAM_WT_ADDR");
    let told = look("192.0.2.1:4433").await;
    assert_told(&told, "failed", "192.0.2.1:4433 (UDP): ", "DATASTREAM_WT_ADDR");
}

/// A certificate that is valid from and until these days from now, and its key.
async fn certificate(folder: &Path, from: i64, until: i64) -> [String; 2] {
    use wtransport::tls::self_signed::time::{Duration, OffsetDateTime};
    let day = |days| OffsetDateTime::now_utc() + Duration::days(days);
    let identity = Identity::self_signed_builder()
        .subject_alt_names(["localhost"])
        .validity_period(day(from), day(until))
        .build()
        .expect("a certificate");
    let [chain, key] = ["chain.pem", "key.pem"].map(|name| folder.join(name));
    identity.certificate_chain().store_pemfile(&chain).await.expect("a file");
    identity.private_key().store_secret_pemfile(&key).await.expect("a file");
    [format!("--wt-cert={}", chain.display()), format!("--wt-key={}", key.display())]
}

#[tokio::test]
async fn a_certificate_that_is_none_has_expired_or_soon_does_is_told() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let look = async |files: &[String; 2]| {
        let on = ["--wt-enabled", "--wt-addr=127.0.0.1:0", &files[0], &files[1]];
        lines(&url, "certificate", &on).await
    };
    let folder = tempfile::tempdir().expect("a folder");
    for (from, until, status, says) in [
        (-10, 80, "ok", "is valid until"),
        (-85, 5, "warning", "is valid until"),
        (-1, 5, "ok", "is valid until"),
        (-90, -1, "failed", "was valid until"),
    ] {
        let files = certificate(folder.path(), from, until).await;
        let told = look(&files).await;
        assert_eq!((&*told[0][0], told[0][1].contains(says)), (status, true), "{told:?}");
        assert_eq!(told[0][2].contains("renew"), status != "ok", "{told:?}");
    }
    let nowhere = ["--wt-cert=/nowhere/chain.pem", "--wt-key=/nowhere/key.pem"].map(str::to_owned);
    assert_told(&look(&nowhere).await, "failed", "/nowhere/chain.pem", "DATASTREAM_WT_CERT");
    let half = run(&url, "doctor --wt-enabled --wt-cert=/nowhere/chain.pem", &[]).await;
    assert_eq!(half.code, Some(2), "{}", half.stderr);
    assert!(half.stderr.contains("--wt-key"), "{}", half.stderr);
}
