//! The game changes its directory while the server runs.

use testkit::{SseClient, TestDatabase, TestServer, WsClient, eventually, get, serving};

/// Changes the directory, and waits until each path answers with its status.
async fn answers_change(
    database: &TestDatabase,
    server: &TestServer,
    sql: &str,
    paths: &[(&str, u16)],
) {
    database.run(sql).await;
    for (path, status) in paths {
        let url = server.http(path);
        eventually(format!("{path} to answer {status}"), || async {
            // A stream's answer has no end: the head is enough.
            let answered = if path.starts_with("/sse") {
                SseClient::connect(&url).await.status
            } else {
                get(&url).await.status
            };
            (answered == *status).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_renamed_game_is_known_from_its_next_round_on() {
    let (database, server) = serving().await;
    database.finish_streamed(&server, "crash", "{}").await;
    let mut open = WsClient::connect(server.ws("/ws/crash")).await;
    assert_eq!(open.next_round().await.game_slug, "crash");
    get(&server.http("/sse/type/rockets")).await.assert_problem(404);
    database.run("update games set slug = 'rocket', type = 'rockets' where slug = 'crash'").await;
    let id = database.finish("rocket", "{}").await;
    let round = open.next_round().await;
    assert_eq!((round.round_id, &*round.game_slug, &*round.game_type), (id, "rocket", "rockets"));
    for path in ["/rounds/rocket", "/rounds/rocket/latest"] {
        let answer = get(&server.http(path)).await;
        assert!(answer.body.contains("\"game_slug\":\"rocket\""), "{}", answer.body);
    }
    get(&server.http("/rounds/crash")).await.assert_problem(404);
    let (_, seed) = SseClient::connect(&server.http("/sse/type/rockets")).await.next_event().await;
    assert_eq!(seed.round_id, id);
}

#[tokio::test]
async fn a_change_that_no_round_shows_is_known_without_one() {
    let (database, server) = serving().await;
    database.finish_streamed(&server, "double", "{}").await;
    let renamed = "update games set slug = 'rocket', name = 'Rocket' where slug = 'double'";
    let paths = [
        ("/rounds/double", 404),
        ("/rounds/rocket", 200),
        ("/sse/double", 404),
        ("/sse/rocket", 200),
    ];
    answers_change(&database, &server, renamed, &paths).await;
    let games = get(&server.http("/games")).await.body;
    assert!(games.contains("\"Rocket\"") && !games.contains("\"double\""), "{games}");
    let retyped = "update games set type = 'rockets' where slug = 'rocket'";
    let paths = [("/sse/type/color", 404), ("/sse/type/rockets", 200)];
    answers_change(&database, &server, retyped, &paths).await;
    let added = "insert into games (slug, name, type) values ('new', 'New', 'kinds')";
    answers_change(&database, &server, added, &[("/sse/new", 200), ("/sse/type/kinds", 200)]).await;
    let deleted = "delete from games where slug = 'new'";
    let paths = [("/sse/new", 404), ("/sse/type/kinds", 404), ("/rounds/new", 404)];
    answers_change(&database, &server, deleted, &paths).await;
    assert!(!get(&server.http("/games")).await.body.contains("\"new\""));
}

#[tokio::test]
async fn a_game_whose_type_changes_is_the_seed_of_its_new_type() {
    let (database, server) = serving().await;
    let id = database.finish_streamed(&server, "double", "{}").await;
    let retyped = "update games set type = 'rockets' where slug = 'double'";
    let paths = [("/sse/type/color", 404), ("/sse/type/rockets", 200)];
    answers_change(&database, &server, retyped, &paths).await;
    let (name, seed) =
        SseClient::connect(&server.http("/sse/type/rockets")).await.next_event().await;
    assert_eq!((name.as_str(), seed.round_id), ("initial", id));
}

#[tokio::test]
async fn a_slug_that_moves_to_another_game_shows_the_other_game() {
    let (database, server) = serving().await;
    let of_crash = database.finish_streamed(&server, "crash", "{}").await;
    let of_double = database.finish_streamed(&server, "double", "{}").await;
    database
        .run(
            "begin; update games set slug = 'old' where slug = 'crash'; \
             update games set slug = 'crash' where slug = 'double'; commit",
        )
        .await;
    eventually("the other game under the slug", || async {
        let list = get(&server.http("/rounds/crash")).await;
        let latest = get(&server.http("/rounds/crash/latest")).await;
        let shows = |body: &str| body.contains(&format!("\"round_id\":{of_double},"));
        (shows(&list.body) && shows(&latest.body)).then_some(())
    })
    .await;
    let (_, seed) = SseClient::connect(&server.http("/sse/crash")).await.next_event().await;
    assert_eq!(seed.round_id, of_double);
    let (_, seed) = SseClient::connect(&server.http("/sse/old")).await.next_event().await;
    assert_eq!(seed.round_id, of_crash);
    let mut client = WsClient::connect(server.ws("/ws/crash?after=987654321")).await;
    assert_eq!(client.close_code().await, Some(4410));
    // The slug does not flip back with later rounds of either game.
    let mut stream = SseClient::connect(&server.http("/sse/crash")).await;
    stream.next_event().await;
    database.finish("old", "{}").await;
    let next = database.finish("crash", "{}").await;
    let (_, round) = stream.next_event().await;
    assert_eq!((round.round_id, &*round.game_slug), (next, "crash"));
}
