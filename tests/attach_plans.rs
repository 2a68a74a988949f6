//! Every query of the server uses an index, whatever the kind of the ids.

use testkit::{
    TestDatabase,
    game::{attach, psql},
};

/// A table with each kind of id, and its rows. `n` is a number of a row.
const TABLES: [(&str, &str, &str, &[&str]); 8] = [
    ("numbers", "id int primary key", "n", &["--id", "id"]),
    ("uuids", "id uuid primary key", "md5(n::text)::uuid", &["--id", "id", "--id-prefix", "u"]),
    ("texts", "id text primary key", "'t:' || n", &["--id", "id", "--id-prefix", "t"]),
    ("padded", "id char(20) primary key", "'c' || n", &["--id", "id", "--id-prefix", "c"]),
    ("numerics", "id numeric primary key", "n", &["--id", "id", "--id-prefix", "n"]),
    (
        "composites",
        "a int, b text, c uuid, primary key (a, b, c)",
        "n % 7, 'b:' || n, md5(n::text)::uuid",
        &["--id", "a,b,c", "--id-prefix", "x"],
    ),
    ("prefixed", "id bigint primary key", "n", &["--id", "id", "--id-prefix", "p"]),
    (
        "pairs",
        "a int, b bigint, primary key (a, b)",
        "n % 7, n",
        &["--id", "a,b", "--id-prefix", "y"],
    ),
];
const ROWS: &str = "generate_series(1, 30000) n";

async fn database() -> TestDatabase {
    let database = TestDatabase::empty().await;
    for (table, id, value, options) in TABLES {
        let make = format!(
            "create table {table} ({id}, game uuid, ended timestamp, extras jsonb); \
             insert into {table} select {value}, md5((n % 40)::text)::uuid, now() - n * interval '1 second', '{{}}' from {ROWS}"
        );
        database.run(&make).await;
        let game = [
            "--table",
            table,
            "--finished-at",
            "ended",
            "--game-id",
            "game",
            "--slug-column",
            "game",
        ];
        attach(&database, &[&game[..], &["--type", "kind", "--index"], options].concat()).await;
    }
    let record = "insert into datastream.outbox (attachment, round_id, round_key) \
        select f.attachment, coalesce(f.round_id, 0), coalesce(f.round_key, '') from datastream.finished_rounds f; \
        vacuum analyze";
    for statement in record.split(';') {
        database.run(statement).await;
    }
    database
}

#[tokio::test]
async fn no_query_of_the_server_reads_a_whole_table_of_the_game() {
    let database = database().await;
    let game = "md5('1')::uuid::text";
    let attachments = "array[1, 1, 2, 3, 5, 6, 7, 8]";
    let ids = "array[1, 2, 0, 0, 0, 0, 0, 0]::bigint[]";
    let keys = "array['', '', 'u:' || md5('5')::uuid, 't:t:6', 'n:7', 'x:1:b:8:' || md5('8')::uuid, 'p:9', 'y:1:8']";
    let snapshot = "pg_current_snapshot()::text";
    let ago = "(extract(epoch from now() - interval '20 s') * 1000000)::bigint";
    for (name, sql, types, values) in [
        (
            "rounds_by_id",
            include_str!("../sql/rounds_by_id.sql"),
            "integer[], bigint[], text[]",
            format!("{attachments}, {ids}, {keys}"),
        ),
        (
            "extras_bytes",
            include_str!("../sql/extras_bytes.sql"),
            "integer[], bigint[], text[]",
            format!("{attachments}, {ids}, {keys}"),
        ),
        (
            "list_keys of a game",
            include_str!("../sql/list_keys.sql"),
            "bigint[], text[], bigint, bigint, text, bigint",
            format!("'{{}}', array[{game}], {ago}, null, 't:t:6', 100"),
        ),
        (
            "list_keys of several games",
            include_str!("../sql/list_keys.sql"),
            "bigint[], text[], bigint, bigint, text, bigint",
            format!("'{{1, 2}}', array[{game}, md5('2')::uuid::text], {ago}, 41, null, 100"),
        ),
        (
            "list_place",
            include_str!("../sql/list_place.sql"),
            "bigint, text",
            "41, 't:t:6'".to_owned(),
        ),
        (
            "list_rounds",
            include_str!("../sql/list_rounds.sql"),
            "integer[], bigint[], text[], bigint",
            format!("{attachments}, {ids}, {keys}, 1000"),
        ),
        ("latest_by_game", include_str!("../sql/latest_by_game.sql"), "", String::new()),
        (
            "recent",
            include_str!("../sql/recent.sql"),
            "text, bigint, bigint",
            format!("{snapshot}, 10, 100"),
        ),
        (
            "replay",
            include_str!("../sql/replay.sql"),
            "bigint, bigint[], text[], bigint, text",
            format!("1, '{{}}', array[{game}], 100, {snapshot}"),
        ),
        ("poll", include_str!("../sql/poll.sql"), "text, bigint", "'1:1:', 100".to_owned()),
        ("finished_since", include_str!("../sql/finished_since.sql"), "bigint", ago.to_owned()),
        ("moments_since", include_str!("../sql/moments_since.sql"), "bigint", ago.to_owned()),
        ("games", include_str!("../sql/games.sql"), "bigint[], text[]", "null, null".to_owned()),
        ("game_keys", include_str!("../sql/game_keys.sql"), "", String::new()),
        ("skipped", include_str!("../sql/skipped.sql"), "text, bigint", format!("{snapshot}, 100")),
        (
            "ids_since",
            "select * from generate_series(1, 8) a, lateral datastream.ids_since(a, now() - interval '10 s')",
            "",
            String::new(),
        ),
    ] {
        let (types, values) = match types {
            "" => (String::new(), String::new()),
            types => (format!("({types})"), format!("({values})")),
        };
        // As the server's sessions: one plan for all values.
        let explain = format!(
            "set plan_cache_mode = force_generic_plan; set jit = off; prepare q{types} as {sql}; explain (analyze, costs off, timing off) execute q{values}"
        );
        let plan = psql(&database, &["-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", &explain]).await;
        assert_eq!(plan.code, Some(0), "{name}: {}", plan.stderr);
        for table in TABLES.map(|(table, ..)| table).into_iter().chain(["outbox"]) {
            assert!(
                !plan.stdout.contains(&format!("Seq Scan on {table} ")),
                "{name}: {}",
                plan.stdout
            );
        }
    }
}
