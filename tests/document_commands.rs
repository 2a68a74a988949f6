//! The commands of README and documents, run as they stand: only addresses are others.
//!
//! A comment above each block says where it runs: beside a `server`, on the database of a `game` that
//! is to be attached, or on one whose table is `attached`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use testkit::{
    TestDatabase, TestServer,
    binary::{path, program},
    cluster::installation,
    game,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What a reader stops with Ctrl-C ends here by itself.
const PRELUDE: &str = r#"
curl() { command curl --silent --show-error --max-time 1 "$@" || [ $? = 28 ]; }
datastream() {
  case "${1-serve}" in
    serve | tail) timeout --foreground --preserve-status --signal=INT 2 datastream "$@" ;;
    *) command datastream "$@" ;;
  esac
}
"#;

/// A block of commands, and its page.
struct Block {
    page: PathBuf,
    text: String,
}

/// The blocks that run in this place.
fn blocks(place: &str) -> Vec<Block> {
    let docs = fs::read_dir(Path::new(ROOT).join("docs")).expect("docs").flatten();
    let pages = docs.map(|entry| entry.path()).chain([Path::new(ROOT).join("README.md")]);
    let mut found = Vec::new();
    for page in pages.filter(|page| page.extension().is_some_and(|it| it == "md")) {
        let text = fs::read_to_string(&page).expect("text");
        for rest in text.split(&format!("<!-- run: {place} -->\n```sh\n")).skip(1) {
            let (text, _) = rest.split_once("\n```").expect("an end");
            found.push(Block { page: page.clone(), text: text.to_owned() });
        }
    }
    assert!(!found.is_empty(), "no block for {place}");
    found
}

/// Runs a block in bash; the program and PostgreSQL's are on `PATH`.
async fn run(block: &Block, database: &TestDatabase, address: &str) {
    let commands = block.text.replace("localhost:3000", address);
    let folder = path().parent().expect("a folder").display().to_string();
    let given = std::env::var("PATH").unwrap_or_default();
    let search = format!("{folder}:{}:{given}", installation().bin().display());
    let bash = program("bash", &["-euo", "pipefail", "-c", &format!("{PRELUDE}{commands}")]);
    let bash = bash.env("PATH", search).env("DATABASE_URL", database.url());
    let bash = bash.env("DATASTREAM_URL", format!("http://{address}"));
    let bash =
        bash.env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0").current_dir(env!("CARGO_TARGET_TMPDIR"));
    let output = bash.run().await;
    let page = block.page.display();
    assert_eq!(output.code, Some(0), "{page}:\n{commands}\n{}{}", output.stdout, output.stderr);
}

#[tokio::test]
async fn the_commands_for_a_running_server_succeed() {
    let database = TestDatabase::new().await;
    database.finish("crash", r#"{"point": "11.72"}"#).await;
    let server = TestServer::on(database.url()).start().await;
    let address = server.http("").trim_start_matches("http://").to_owned();
    for block in blocks("server") {
        run(&block, &database, &address).await;
    }
}

#[tokio::test]
async fn the_commands_that_attach_a_table_succeed() {
    for block in blocks("game") {
        let database = TestDatabase::empty().await;
        database.run(game::GAME).await;
        database.run(game::INSERT).await;
        run(&block, &database, "localhost:9").await;
    }
}

#[tokio::test]
async fn the_commands_for_an_attached_table_succeed() {
    for block in blocks("attached") {
        let database = TestDatabase::empty().await;
        database.run(game::GAME).await;
        database.run(game::INSERT).await;
        game::attach(&database, &game::contract(&[])).await;
        run(&block, &database, "localhost:9").await;
    }
}
