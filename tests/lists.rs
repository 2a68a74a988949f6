//! Lists of finished rounds: selections, order, pages and links.

use testkit::{
    TestDatabase, TestServer, eventually,
    game::{attach, dice},
    get,
    http::Response,
    serving,
};

/// The ids of a page, as JSON.
fn listed(page: &Response) -> Vec<String> {
    assert_eq!(page.status, 200, "{}", page.body);
    let rounds = page.json();
    rounds.as_array().expect("a list").iter().map(|round| round["round_id"].to_string()).collect()
}

/// The path of the next page.
fn next(page: &Response) -> Option<String> {
    let link = page.header("link");
    assert!(link.is_empty() || link.ends_with(">; rel=\"next\""), "{link}");
    link.strip_prefix('<')?.split_once('>').map(|(path, _)| path.to_owned())
}

/// All pages from this one on.
async fn walk(server: &TestServer, path: &str) -> Vec<Vec<String>> {
    let (mut pages, mut path) = (Vec::new(), Some(path.to_owned()));
    while let Some(page) = path {
        let page = get(&server.http(&page)).await;
        pages.push(listed(&page));
        path = next(&page);
    }
    pages
}

fn newest_first(ids: &[i64]) -> Vec<String> {
    ids.iter().rev().map(i64::to_string).collect()
}

#[tokio::test]
async fn a_list_has_the_rounds_of_any_selection_newest_first() {
    let (database, server) = serving().await;
    let at = |second: u32| format!("timestamptz '2026-01-17 00:00:{second:02}+00'");
    let mut rounds = Vec::new();
    for (second, game) in
        [(1, "crash"), (2, "double"), (3, "crash"), (3, "double"), (4, "crash"), (9, "double")]
    {
        rounds.push(database.finish_at(game, &at(second)).await);
    }
    // A later id that finished earlier.
    let early = database.finish_at("crash", &at(0)).await;
    let all = [&[early], &rounds[..]].concat();
    for path in ["/rounds", "/rounds?game=crash&game=double", "/rounds/double?game=crash"] {
        assert_eq!(listed(&get(&server.http(path)).await), newest_first(&all), "{path}");
        assert_eq!(
            walk(&server, &format!("{path}{}limit=2", if path.contains('?') { '&' } else { '?' }))
                .await
                .concat(),
            newest_first(&all),
            "{path}"
        );
    }
    let double = [rounds[1], rounds[3], rounds[5]];
    for path in ["/rounds?type=color", "/rounds/double", "/rounds?game=double&type=color"] {
        assert_eq!(listed(&get(&server.http(path)).await), newest_first(&double), "{path}");
    }
    // The round that is named may be of a game that is not selected.
    let before = format!("/rounds/double?before={}", rounds[2]);
    assert_eq!(listed(&get(&server.http(&before)).await), newest_first(&double[..1]));
}

#[tokio::test]
async fn before_a_round_that_is_not_finished_or_not_there_is_404() {
    let (database, server) = serving().await;
    let open = database.open("crash").await;
    database.finish("crash", "{}").await;
    for before in [open.to_string(), "999999".to_owned(), "x".to_owned(), "%00%00".to_owned()] {
        let path = format!("/rounds/crash?before={before}");
        let status = if before.starts_with('%') { 400 } else { 404 };
        get(&server.http(&path)).await.assert_problem(status);
    }
    for unknown in ["/rounds/chess", "/rounds?game=chess", "/rounds?type=board"] {
        get(&server.http(unknown)).await.assert_problem(404);
    }
    get(&server.http("/rounds?place=nonsense")).await.assert_problem(400);
}

#[tokio::test]
async fn a_link_continues_after_its_round_was_deleted_and_newer_rounds_came() {
    let (database, server) = serving().await;
    let rounds = database.finish_many("crash", 10).await;
    let first = get(&server.http("/rounds/crash?limit=4")).await;
    assert_eq!(listed(&first), newest_first(&rounds[6..]));
    database.run(&format!("delete from rounds where id = {}", rounds[6])).await;
    database.finish("crash", "{}").await;
    let second = get(&server.http(&next(&first).expect("a link"))).await;
    assert_eq!(listed(&second), newest_first(&rounds[2..6]));
    let third = get(&server.http(&next(&second).expect("a link"))).await;
    assert_eq!((listed(&third), next(&third)), (newest_first(&rounds[..2]), None));
    let exact = get(&server.http("/rounds/crash?limit=10")).await;
    assert_eq!((listed(&exact).len(), next(&exact)), (10, None), "no link to an empty page");
}

#[tokio::test]
async fn a_page_ends_before_it_exceeds_1_mib_but_has_a_round() {
    let (database, server) = serving().await;
    let mut rounds = Vec::new();
    for size in [400_000, 400_000, 400_000, 10, 1_000_000, 400_000] {
        let extras = format!("{{\"text\": \"{}\"}}", "x".repeat(size));
        rounds.push(database.finish("crash", &extras).await);
    }
    // Escaped in the string `extras`, its quotes take twice their bytes.
    let quotes = format!("{{\"text\": \"{}\"}}", "\\\"".repeat(400_000));
    rounds.push(database.finish("crash", &quotes).await);
    let mut path = "/rounds?limit=1000".to_owned();
    let mut sizes = Vec::new();
    let mut all = Vec::new();
    loop {
        let page = get(&server.http(&path)).await;
        let ids = listed(&page);
        assert!(page.body.len() <= 1 << 20 || ids.len() == 1, "{} bytes", page.body.len());
        sizes.push(ids.len());
        all.extend(ids);
        match next(&page) {
            Some(next) => path = next,
            None => break,
        }
    }
    assert_eq!(all, newest_first(&rounds));
    assert_eq!(sizes, [1, 1, 2, 2, 1]);
}

#[tokio::test]
async fn numbers_and_strings_of_one_moment_have_one_order_before_and_after_a_restart() {
    let database = TestDatabase::empty().await;
    let tables = "create table numbers (id bigint primary key, at timestamptz, extras jsonb); \
        create table texts (id text primary key, at timestamptz, extras jsonb)";
    for statement in tables.split(';') {
        database.run(statement).await;
    }
    attach(&database, &dice("numbers", &["--id", "id", "--index"])).await;
    attach(&database, &dice("texts", &["--id", "id", "--id-prefix", "t", "--index"])).await;
    let server = TestServer::on(database.url()).start().await;
    let moment = "timestamptz '2026-01-17 00:00:00.000001+00'";
    for values in [
        format!("numbers values (10, {moment}), (9, {moment}), (-1, {moment})"),
        format!(
            "texts values ('é', {moment}), ('B', {moment}), ('a', {moment}), ('10', {moment}), ('9', {moment})"
        ),
    ] {
        database.run(&format!("insert into {values}")).await;
    }
    let order = ["\"t:é\"", "\"t:a\"", "\"t:B\"", "\"t:9\"", "\"t:10\"", "10", "9", "-1"];
    let same = async |server: &TestServer| {
        for limit in [1, 2, 100] {
            let path = format!("/rounds?limit={limit}");
            assert_eq!(walk(server, &path).await.concat(), order, "{limit}");
        }
        for (index, id) in order.iter().enumerate() {
            let id = id.trim_matches('"').replace('é', "%C3%A9");
            let page = get(&server.http(&format!("/rounds/dice?before={id}"))).await;
            assert_eq!(listed(&page), order[index + 1..], "before {id}");
        }
        let url = server.http("/rounds/dice/latest");
        eventually("the greatest string as the latest round", || async {
            (get(&url).await.json()["round_id"] == "t:é").then_some(())
        })
        .await;
    };
    same(&server).await;
    server.kill().await;
    same(&TestServer::on(database.url()).start().await).await;
}
