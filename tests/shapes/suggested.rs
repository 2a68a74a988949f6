//! The commands that `attach --suggest` and `doctor` print work when they are pasted into a shell.

use testkit::{
    TestDatabase, TestServer, WsClient,
    binary::{self, Output, program},
    game::{GAME, INSERT, dump, run},
};

use super::{
    corpus::{SHAPES, Shape},
    id_of,
};

/// Their time is always set, and nothing says when a round is finished.
const NOT_SUGGESTED: [&str; 2] =
    ["a condition that fails for some rows", "rows that are inserted when a round has ended"];
/// Its condition over points and its second key are known to a person only.
const OTHER_ROUNDS: &str = "a unique key beside the primary key, and a generated column";

/// The lines that are no remarks.
fn commands(printed: &str) -> Vec<&str> {
    printed.lines().map(str::trim).filter(|line| line.starts_with("datastream attach")).collect()
}

async fn pasted(database: &TestDatabase, command: &str) -> Output {
    let folder = binary::path().parent().expect("a folder").display().to_string();
    let path = format!("{folder}:{}", std::env::var("PATH").expect("a path"));
    let shell = program("/bin/sh", &["-c", command]).env("PATH", path);
    shell.env("DATABASE_URL", database.url()).run().await
}

async fn is_suggested_pasted_and_streamed(shape: &Shape) {
    let database = TestDatabase::empty().await;
    database.run(shape.schema).await;
    let before = dump(&database).await;
    let suggested = run(&database, "attach", &["--suggest"]).await;
    assert_eq!(suggested.code, Some(0), "{}: {}", shape.name, suggested.stderr);
    assert_eq!(dump(&database).await, before, "{}: it changes nothing", shape.name);
    let found = commands(&suggested.stdout);
    if NOT_SUGGESTED.contains(&shape.name) {
        assert!(found.is_empty(), "{}: {}", shape.name, suggested.stdout);
        return;
    }
    let [command] = *found else { panic!("{}: {}", shape.name, suggested.stdout) };
    let output = pasted(&database, command).await;
    assert_eq!(output.code, Some(0), "{}: {command}\n{}", shape.name, output.stderr);
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws")).await;
    for (write, id) in shape.writes.iter().zip(shape.ids) {
        database.run(write).await;
        let round = client.next_text().await;
        let streamed = id_of(&round);
        // The corpus gives some a prefix, and names columns in another order.
        let parts: Vec<&str> = id.trim_matches('"').split(':').collect();
        let mut streamed = streamed.trim_matches('"').split(':');
        let is_it = streamed.all(|part| parts.contains(&part)) || shape.name == OTHER_ROUNDS;
        assert!(is_it, "{}: {command}\n{round}", shape.name);
    }
}

async fn every_fourth(from: usize) {
    for shape in SHAPES.iter().skip(from).step_by(4) {
        is_suggested_pasted_and_streamed(shape).await;
    }
}

#[tokio::test]
async fn the_suggested_command_for_a_table_streams_it_when_it_is_pasted_1_of_4() {
    every_fourth(0).await;
}

#[tokio::test]
async fn the_suggested_command_for_a_table_streams_it_when_it_is_pasted_2_of_4() {
    every_fourth(1).await;
}

#[tokio::test]
async fn the_suggested_command_for_a_table_streams_it_when_it_is_pasted_3_of_4() {
    every_fourth(2).await;
}

#[tokio::test]
async fn the_suggested_command_for_a_table_streams_it_when_it_is_pasted_4_of_4() {
    every_fourth(3).await;
}

#[tokio::test]
async fn doctor_suggests_the_same_commands_until_a_table_is_attached() {
    let database = TestDatabase::empty().await;
    database.run(GAME).await;
    let suggested = run(&database, "attach", &["--suggest"]).await.stdout;
    let doctor = run(&database, "doctor", &[]).await.stdout;
    let [command] = *commands(&suggested) else { panic!("{suggested}") };
    assert_eq!(commands(&doctor), [command], "{doctor}");
    let wanted = "--table game.results --id result_id --finished-at ended_at --extras payload \
        --game-id title_id --games game.titles --games-id id --games-slug code --games-name title \
        --games-type kind";
    assert!(command.contains(wanted), "{command}");
    assert_eq!(pasted(&database, command).await.code, Some(0));
    let doctor = run(&database, "doctor", &[]).await;
    assert_eq!((doctor.code, commands(&doctor.stdout).len()), (Some(0), 0), "{}", doctor.stdout);
    let again = run(&database, "attach", &["--suggest"]).await.stdout;
    assert!(commands(&again).is_empty(), "it is attached: {again}");
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws/crash")).await;
    database.run(INSERT).await;
    assert!(client.next_text().await.contains(r#""game_slug":"crash""#));
}

#[tokio::test]
async fn samples_tell_the_unit_of_a_number_and_the_values_of_a_status() {
    for (number, unit) in [("1768610742", "s"), ("1768610742123", "ms"), ("1768610742123456", "us")]
    {
        let database = TestDatabase::empty().await;
        let schema = format!(
            "create table matches (id bigint primary key, ended bigint, status text, n int); \
             insert into matches values (9007199254740993, {number}, 'Closed', 1), (2, null, 'open', 2)"
        );
        database.run(&schema).await;
        let printed = run(&database, "attach", &["--suggest", "matches"]).await.stdout;
        let wanted = format!(
            "--id id --id-text --finished-at ended --finished-at-unit {unit} --finished-when \
             'status = '\\''Closed'\\''' --extras-columns n "
        );
        assert!(printed.contains(&wanted), "{printed}");
        let [command] = *commands(&printed) else { panic!("{printed}") };
        let output = pasted(&database, command).await;
        assert!(output.stdout.contains(r#"{"round_id":"9007199254740993""#), "{}", output.stdout);
    }
}

#[tokio::test]
async fn a_table_of_any_name_is_suggested_if_no_other_looks_like_rounds() {
    let database = TestDatabase::empty().await;
    let columns = "(id serial primary key, closed timestamptz, body jsonb)";
    database.run(&format!("create table tickets {columns}")).await;
    let alone = run(&database, "attach", &["--suggest"]).await.stdout;
    let [command] = *commands(&alone) else { panic!("{alone}") };
    assert!(command.contains("--table public.tickets "), "{command}");
    let named = run(&database, "attach", &["--suggest", "tickets"]).await.stdout;
    assert_eq!(commands(&named), [command], "the same as for its name");
    database.run(&format!("create table rounds {columns}")).await;
    let beside = run(&database, "attach", &["--suggest"]).await.stdout;
    let [command] = *commands(&beside) else { panic!("{beside}") };
    assert!(command.contains("--table public.rounds "), "{command}");
}

#[tokio::test]
async fn two_candidates_are_suggested_with_prefixes_and_both_can_be_attached() {
    let database = TestDatabase::empty().await;
    let table = "(id serial primary key, finished_at timestamptz, extras jsonb)";
    database.run(&format!("create table spins {table}; create table rolls {table}")).await;
    let printed = run(&database, "attach", &["--suggest"]).await.stdout;
    let found = commands(&printed);
    assert_eq!(found.len(), 2, "{printed}");
    for command in found {
        let output = pasted(&database, command).await;
        assert_eq!(output.code, Some(0), "{command}: {}", output.stderr);
    }
    let server = TestServer::on(database.url()).start().await;
    let mut client = WsClient::connect(server.ws("/ws")).await;
    for table in ["spins", "rolls"] {
        database.run(&format!("insert into {table} (finished_at) values (now())")).await;
        assert_eq!(id_of(&client.next_text().await), format!("\"{table}:1\""));
    }
}

#[tokio::test]
async fn a_status_without_a_known_final_value_is_never_overruled() {
    let database = TestDatabase::empty().await;
    let schema = "create table spins (id serial primary key, played_at timestamptz not null default now(), \
          status text, extras jsonb); insert into spins (status) values ('running')";
    database.run(schema).await;
    let printed = run(&database, "attach", &["--suggest", "spins"]).await.stdout;
    assert!(printed.contains("has no known final value: add --finished-when"), "{printed}");
    let [command] = *commands(&printed) else { panic!("{printed}") };
    assert!(!command.contains("--yes"), "{command}");
    let output = pasted(&database, command).await;
    assert_eq!(output.code, Some(1), "{}{}", output.stdout, output.stderr);
}

#[tokio::test]
async fn a_name_with_a_line_break_adds_no_line_to_what_is_printed() {
    let database = TestDatabase::empty().await;
    let schema = "create table spins (id serial primary key, \"ended\necho harm; : \" timestamp, extras jsonb); \
        create table \"rolls\necho harm\" (id serial primary key, finished_at timestamp, extras jsonb)";
    database.run(schema).await;
    for (command, args) in [("attach", &["--suggest"][..]), ("doctor", &[])] {
        let output = run(&database, command, args).await;
        let is_comment = |line: &&str| line.starts_with('#') || line.starts_with(' ');
        let bare = output.stdout.lines().filter(|line| !is_comment(line));
        assert!(bare.clone().all(|line| !line.starts_with("echo")), "{}", output.stdout);
    }
}

#[tokio::test]
async fn without_a_candidate_the_way_by_hand_is_printed() {
    let database = TestDatabase::empty().await;
    let users = "create table users (id int primary key, name text, created_at timestamptz default now()); \
        create table plays (id int primary key, updated_at timestamptz not null default now())";
    database.run(users).await;
    for args in [&["--suggest"][..], &["--suggest", "users"]] {
        let output = run(&database, "attach", args).await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert!(output.stdout.starts_with("# No table looks like rounds."), "{}", output.stdout);
        assert!(output.stdout.contains("datastream attach --table TABLE"), "{}", output.stdout);
    }
    let output = run(&database, "attach", &["--suggest", "nothing"]).await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("table nothing does not exist"), "{}", output.stderr);
    let output = run(&database, "attach", &[]).await;
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("--table"), "{}", output.stderr);
}
