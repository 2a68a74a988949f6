//! Ids of attached tables: those that cannot be sent, equal ids of several tables, prefixes.

use testkit::{
    TestDatabase, TestServer, WsClient,
    game::{attach, dice, psql, refused},
    get,
};

const KEYS: &str = "create table plays (key text primary key, at timestamptz, n int)";

async fn with(schema: &str, options: &[&str]) -> TestDatabase {
    let database = TestDatabase::empty().await;
    database.run(schema).await;
    attach(&database, options).await;
    database
}

/// Runs a statement of the game and asserts that it raises no warning.
async fn writes(database: &TestDatabase, statement: &str) {
    let output = psql(database, &["-v", "ON_ERROR_STOP=1", "-c", statement]).await;
    assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{statement}");
}

fn ids(body: &str) -> Vec<String> {
    let page: Vec<serde_json::Value> = serde_json::from_str(body).expect("a list");
    page.iter().map(|round| round["round_id"].to_string()).collect()
}

#[tokio::test]
async fn rounds_whose_ids_cannot_be_sent_are_counted_and_affect_no_other() {
    for prefix in [&[][..], &["--id-prefix", "p"]] {
        let options =
            [&dice("plays", &["--id", "key", "--extras-columns", "n"])[..], prefix].concat();
        let database = with(KEYS, &options).await;
        let server = TestServer::on(database.url()).start().await;
        let mut client = WsClient::connect(server.ws("/ws/dice")).await;
        let bad = "insert into plays values (E'a\\nb', now(), 1), ('', now(), 1), (E'\\x7f', now(), 1), \
            (U&'a\\0085', now(), 1), (repeat('x', 2000), now(), 1), ('good', now(), 1)";
        writes(&database, bad).await;
        writes(
            &database,
            "begin; insert into plays values (E'one\\t', null, 2), ('two', null, 2); \
            update plays set at = now() where n = 2; commit",
        )
        .await;
        let good =
            if prefix.is_empty() { ["\"good\"", "\"two\""] } else { ["\"p:good\"", "\"p:two\""] };
        for id in good {
            let round = client.next_text().await;
            assert!(round.contains(&format!("\"round_id\":{id},")), "{round}");
        }
        server.counts("datastream_rounds_skipped_total{reason=\"bad_id\"} 6").await;
        let named = |line: &String| {
            line.contains("reason=bad_id round.table=\"public.plays\" round.id=")
                && line.contains("skipped")
        };
        assert!(server.log().iter().any(named), "{:?}", server.log());
        let small = "select (max(pg_column_size(o.*)) < 400)::text from datastream.outbox o";
        assert_eq!(database.text(small).await.as_deref(), Some("true"));
        let page = get(&server.http("/rounds/dice")).await.body;
        assert_eq!(ids(&page), [good[1], good[0]]);
        drop(server);
        // Neither is one of them a seed, nor does reconciliation find them again.
        let server = TestServer::on(database.url()).start().await;
        let mut client = WsClient::connect(server.ws("/ws/dice")).await;
        assert!(client.next_text().await.contains(good[1]));
        server.counts("datastream_reconciliations_total 1").await;
        server.counts("datastream_rounds_reconciled_total 0").await;
    }
}

#[tokio::test]
async fn a_numeric_that_is_not_whole_is_no_id() {
    let schema = "create table plays (no numeric primary key, at timestamptz, n int)";
    let database = with(schema, &dice("plays", &["--id", "no", "--extras-columns", "n"])).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/dice")).await;
    writes(
        &database,
        "insert into plays values (5.5, now(), 1), ('NaN', now(), 1), (6.000, now(), 1), \
        (1e250, now(), 1)",
    )
    .await;
    assert!(client.next_text().await.contains("\"round_id\":\"6\","));
    server.counts("datastream_rounds_skipped_total{reason=\"bad_id\"} 3").await;
}

#[tokio::test]
async fn rounds_of_one_transaction_with_the_same_number_are_both_streamed() {
    let schema = "create table games (id int primary key, slug text, name text, type text); \
        insert into games values (1, 'dice', 'Dice', 'chance'), (2, 'wheel', 'Wheel', 'chance'); \
        create table r (game_id int references games, no bigint, finished_at timestamptz, extras jsonb, primary key (game_id, no))";
    let database = TestDatabase::empty().await;
    database.run(schema).await;
    let said = refused(&database, &["--table", "r", "--id", "no"]).await;
    assert!(
        said.contains("no unique index covers \"no\"") && said.contains("Pass --id game_id,no."),
        "{said}"
    );
    let left = "select count(*)::text from pg_namespace where nspname = 'datastream'";
    assert_eq!(database.text(left).await.as_deref(), Some("0"), "nothing was made");
    attach(&database, &["--table", "r", "--id", "game_id,no"]).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws")).await;
    writes(&database, "insert into r values (1, 7, now(), '{}'), (2, 7, now(), '{}')").await;
    let (first, second) = (client.next_text().await, client.next_text().await);
    assert!(first.contains("\"round_id\":\"1:7\""), "{first}");
    assert!(second.contains("\"round_id\":\"2:7\""), "{second}");
}

#[tokio::test]
async fn two_tables_with_a_serial_each_are_streamed_with_a_prefix() {
    let schema = "create table plays (id serial primary key, at timestamptz, n int); \
        create table spins (id serial primary key, at timestamptz, n int)";
    let database =
        with(schema, &dice("plays", &["--extras-columns", "n", "--id-prefix", "a"])).await;
    let other = [
        "--table",
        "spins",
        "--finished-at",
        "at",
        "--extras-columns",
        "n",
        "--slug",
        "wheel",
        "--type",
        "chance",
        "--game-id-value",
        "78",
    ];
    attach(&database, &[&other[..], &["--id-prefix", "b"]].concat()).await;
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws")).await;
    writes(&database, "begin; insert into spins (at) values (now()); insert into plays (at) values (now()); commit").await;
    let (first, second) = (client.next_text().await, client.next_text().await);
    assert!(
        first.contains("\"round_id\":\"a:1\"") && second.contains("\"round_id\":\"b:1\""),
        "{first}{second}"
    );
    for (slug, id) in [("dice", "\"a:1\""), ("wheel", "\"b:1\"")] {
        assert_eq!(ids(&get(&server.http(&format!("/rounds/{slug}"))).await.body), [id]);
    }
}

#[tokio::test]
async fn several_tables_without_a_prefix_are_refused_unless_their_ids_differ() {
    let schema = "create table u1 (id uuid primary key, at timestamptz, n int); \
        create table u2 (id uuid primary key, at timestamptz, n int); \
        create table t1 (id text primary key, at timestamptz, n int); \
        create table i1 (id int primary key, at timestamptz, n int); \
        create table i2 (id int primary key, at timestamptz, n int); \
        insert into i1 values (1, now(), 1), (2, now(), 1); insert into i2 values (2, now(), 1)";
    let database = with(schema, &dice("u1", &["--extras-columns", "n"])).await;
    let n = ["--extras-columns", "n"];
    attach(&database, &dice("i1", &n)).await;
    let said = refused(&database, &dice("i2", &n)).await;
    assert!(said.contains("2 is in public.i2 and in public.i1"), "{said}");
    for table in ["u2", "t1"] {
        let said = refused(&database, &dice(table, &n)).await;
        assert!(said.contains("Pass a prefix as --id-prefix."), "{table}: {said}");
    }
    let said = refused(&database, &dice("i2", &[&n[..], &["--id-text"]].concat())).await;
    assert!(said.contains("Pass a prefix as --id-prefix."), "{said}");
    attach(&database, &dice("t1", &[&n[..], &["--id-prefix", "x"]].concat())).await;
    let said = refused(&database, &dice("u2", &[&n[..], &["--id-prefix", "x"]].concat())).await;
    assert!(said.contains("the prefix x is that of public.t1"), "{said}");
    let said = refused(&database, &dice("u2", &[&n[..], &["--id-prefix", "a b"]].concat())).await;
    assert!(said.contains("a prefix has 1 to 32 letters, digits, _ or -"), "{said}");
}

#[tokio::test]
async fn a_table_without_a_prefix_must_get_one_before_a_second_table() {
    let schema = "create table t1 (id text primary key, at timestamptz, n int); \
        create table i1 (id int primary key, at timestamptz, n int)";
    let n = ["--extras-columns", "n"];
    let database = with(schema, &dice("t1", &n)).await;
    let said = refused(&database, &dice("i1", &n)).await;
    assert!(said.contains("the ids of public.t1 have no prefix"), "{said}");
    let replaced = [&n[..], &["--id-prefix", "t", "--replace"]].concat();
    attach(&database, &dice("t1", &replaced)).await;
    attach(&database, &dice("i1", &n)).await;
}

#[tokio::test]
async fn two_text_columns_are_refused_as_an_id() {
    let database = TestDatabase::empty().await;
    database
        .run("create table t (a text, b text, at timestamptz, n int, primary key (a, b))")
        .await;
    let said = refused(&database, &dice("t", &["--id", "a,b", "--extras-columns", "n"])).await;
    assert!(said.contains("of several columns at most one may be text"), "{said}");
}

#[tokio::test]
async fn unique_indexes_that_do_not_show_that_ids_are_unique_are_refused() {
    for index in [
        "create unique index on t (no) where at is not null",
        "create unique index on t ((no + 1))",
        "alter table t add unique (no) deferrable",
        "create index on t (no)",
        "create unique index on t (no, n)",
    ] {
        let database = TestDatabase::empty().await;
        database
            .run(&format!("create table t (no int not null, at timestamptz, n int); {index}"))
            .await;
        let said = refused(&database, &dice("t", &["--id", "no", "--extras-columns", "n"])).await;
        assert!(said.contains("no unique index covers \"no\""), "{index}: {said}");
        database.run("create unique index on t (no) include (n)").await;
        attach(&database, &dice("t", &["--id", "no", "--extras-columns", "n"])).await;
    }
}

#[tokio::test]
async fn ids_beyond_2_53_are_sent_as_they_stand_with_a_warning() {
    let schema = "create table t (id bigint primary key, at timestamptz, n int); \
        insert into t values (9007199254740993, now(), 1)";
    let database = TestDatabase::empty().await;
    database.run(schema).await;
    let output = attach(&database, &dice("t", &["--extras-columns", "n"])).await;
    assert!(
        output.stderr.contains("2^53 - 1") && output.stderr.contains("--id-text"),
        "{}",
        output.stderr
    );
    assert!(output.stdout.contains("\"round_id\":9007199254740993,"), "{}", output.stdout);
    database.run("insert into t values (9007199254740995, now(), 1)").await;
    let doctor = testkit::game::run(&database, "doctor", &[]).await;
    let told = "public.t has ids above 2^53 - 1, such as 9007199254740995";
    assert!(doctor.stdout.contains(told), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("--id-text --replace"), "{}", doctor.stdout);
    let text = ["--extras-columns", "n", "--id-text", "--replace"];
    let output = attach(&database, &dice("t", &text)).await;
    assert!(!output.stderr.contains("2^53"), "{}", output.stderr);
    assert!(output.stdout.contains("\"round_id\":\"9007199254740993\","), "{}", output.stdout);
}

/// The recipes of docs/migration-tools.md.
#[tokio::test]
async fn a_column_beside_an_odd_key_is_added_while_the_game_writes() {
    let database = TestDatabase::empty().await;
    database
        .run(
            "create table spins (id bytea not null default decode(md5(random()::text), 'hex'), \
               at timestamptz not null default now(), finished_at timestamptz, n int, primary key (id, at)); \
             insert into spins (at) select now() - n * interval '1s' from generate_series(1, 100) n",
        )
        .await;
    for statement in [
        "alter table spins add uid uuid",
        "alter table spins alter uid set default gen_random_uuid()",
        "update spins set uid = default where uid is null and ctid in \
           (select ctid from spins where uid is null limit 10000)",
        "create unique index concurrently spins_uid on spins (uid)",
        "alter table spins add constraint spins_uid_is_set check (uid is not null) not valid",
        "alter table spins validate constraint spins_uid_is_set",
        "alter table spins alter uid set not null",
        "alter table spins drop constraint spins_uid_is_set",
        "alter table spins add hex text generated always as (encode(id, 'hex')) stored not null unique",
    ] {
        database.run(statement).await;
    }
    let game =
        ["--slug", "dice", "--type", "chance", "--game-id-value", "1", "--extras-columns", "n"];
    for (id, again) in [("uid", None), ("hex", Some("--replace"))] {
        let options = [&["--table", "spins", "--id", id], &game[..], again.as_slice()].concat();
        attach(&database, &options).await;
        let server = TestServer::on(database.url()).start().await;
        let mut client = WsClient::connect(server.ws("/ws/dice?seed=none")).await;
        let insert = format!("insert into spins (finished_at) values (now()) returning {id}::text");
        let written = database.text(&insert).await.expect("an id");
        let round = client.next_text().await;
        assert!(round.starts_with(&format!("{{\"round_id\":\"{written}\",")), "{round}");
    }
}

#[tokio::test]
async fn what_would_publish_a_round_twice_is_refused_with_the_way_out() {
    let database = TestDatabase::empty().await;
    let schema = "create table plays (id int primary key, at timestamptz, game_id int, n int); \
        create table titles (id int, slug text, name text, type text); \
        insert into titles values (1, 'old', 'Old', 't'), (1, 'new', 'New', 't'), (2, 'dice', 'Dice', 't'), (2, null, '', 't'); \
        create view latest as select * from titles where slug <> 'old'; \
        create table parts (no int, day date, at timestamptz, n int, primary key (no, day)) partition by range (day)";
    database.run(schema).await;
    let games = ["--table", "plays", "--finished-at", "at", "--extras-columns", "n", "--games"];
    let told = refused(&database, &[&games[..], &["titles"]].concat()).await;
    assert!(told.contains("public.titles has two games with the id 1"), "{told}");
    let told =
        refused(&database, &dice("plays", &["--id", "id,id", "--extras-columns", "n"])).await;
    assert!(told.contains("column \"id\" is named twice. Pass it once as --id."), "{told}");
    let told =
        refused(&database, &dice("latest", &["--id", "id", "--extras-columns", "name"])).await;
    assert!(told.contains("it is not a table") && !told.contains("alter table"), "{told}");
    let told = refused(&database, &dice("parts", &["--id", "no", "--extras-columns", "n"])).await;
    let way = "alter table public.parts add uid uuid not null default gen_random_uuid(); \
        create unique index on public.parts (uid, day);";
    assert!(told.contains(way) && told.contains("pass --id uid"), "{told}");
    database.run(way).await;
    attach(&database, &dice("parts", &["--id", "uid", "--extras-columns", "n"])).await;
    attach(&database, &[&games[..], &["latest"]].concat()).await;
}
