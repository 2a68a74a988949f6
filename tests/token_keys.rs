//! The keys for tokens: from a file and from a URL, well behaved or not.

use std::{fs, path::PathBuf, time::Duration};

use reqwest::Method;
use serde_json::json;

use testkit::{
    JwksServer, Signer, SseClient, TestDatabase, TestServer,
    cluster::free_port,
    eventually, get,
    http::{Response, request},
    jwks::{Answer, KeysCertificate},
    token::{jwk_set, opens},
};

/// A file of keys, and its folder, which lives as long.
struct KeyFile {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl KeyFile {
    fn new(content: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        fs::write(&path, content).expect("written");
        Self { _folder: folder, path }
    }

    /// Replaces the file as Kubernetes does, at once.
    fn replace(&self, content: &str) {
        let next = self.path.with_extension("next");
        fs::write(&next, content).expect("written");
        fs::rename(next, &self.path).expect("renamed");
    }

    fn as_str(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }
}

fn on(database: &TestDatabase, keys: &str) -> testkit::server::Builder {
    TestServer::on(database.url()).env("DATASTREAM_AUTH_KEYS", keys)
}

async fn games(server: &TestServer, token: &str) -> Response {
    let bearer = format!("Bearer {token}");
    request(&Method::GET, &server.http("/games"), &[("authorization", &bearer)]).await
}

async fn status(server: &TestServer, signer: &Signer) -> u16 {
    games(server, &signer.opening(&["*"])).await.status
}

/// Waits until tokens of this signer are answered so.
#[track_caller]
fn answered<'a>(
    server: &'a TestServer,
    signer: &'a Signer,
    expected: u16,
) -> impl Future<Output = ()> + 'a {
    eventually(format!("tokens to be answered with {expected}"), move || async move {
        (status(server, signer).await == expected).then_some(())
    })
}

#[tokio::test]
async fn keys_of_each_type_are_read_from_pem_and_from_a_jwk_set() {
    let database = TestDatabase::new().await;
    let public = [Signer::es256(), Signer::eddsa(), Signer::rs256()];
    let pem: String = public.iter().map(Signer::pem).collect();
    let named = [
        Signer::es256().named("a"),
        Signer::eddsa().named("b"),
        Signer::rs256().named("c"),
        Signer::hs256("a secret of at least 32 bytes in a file").named("d"),
    ];
    for (content, signers) in [(pem, &public[..]), (jwk_set(&named), &named[..])] {
        let file = KeyFile::new(&content);
        let server = on(&database, file.as_str()).start().await;
        for signer in signers {
            assert_eq!(status(&server, signer).await, 200, "{}", signer.algorithm());
        }
        let others = [Signer::es256(), Signer::eddsa().named("b"), Signer::hs256(&content)];
        for other in &others {
            let response = games(&server, &other.opening(&["*"])).await;
            response.assert_problem(401);
            let detail = "the token's signature is of no known key";
            assert_eq!(response.json()["detail"], detail, "{}", other.algorithm());
        }
    }
}

#[tokio::test]
async fn no_token_chooses_its_own_algorithm_or_key() {
    let database = TestDatabase::new().await;
    let (rsa, curve) = (Signer::rs256().named("rsa"), Signer::es256().named("curve"));
    let file = KeyFile::new(&jwk_set([&rsa, &curve]));
    let server = on(&database, file.as_str()).start().await;
    let claims = opens(&["*"]);
    let attacker = Signer::es256().named("curve");
    let pem = rsa.pem();
    let modulus = rsa.jwk()["n"].as_str().expect("a number").to_owned();
    let hs256 = |key: &str, kid: &str| Signer::hs256(key).named(kid).token(&claims);
    let with = |header: serde_json::Value| attacker.sign(&header.to_string(), &claims.to_string());
    let forged = [
        attacker.token(&claims),
        hs256(&pem, "rsa"),
        hs256(pem.trim(), "rsa"),
        hs256(&modulus, "rsa"),
        hs256(&file_content(&file), "curve"),
        Signer::hs256(&pem).token(&claims),
        with(json!({ "alg": "ES256", "jwk": attacker.jwk() })),
        with(json!({ "alg": "ES256", "kid": "curve", "jku": "https://evil.example/keys" })),
        with(json!({ "alg": "ES256", "kid": "rsa" })),
        with(json!({ "alg": "none" })),
        with(json!({ "alg": "None", "kid": "curve" })),
    ];
    for token in &forged {
        games(&server, token).await.assert_problem(401);
    }
    let unsigned = curve.token(&claims);
    let unsigned = unsigned.rsplit_once('.').expect("a signature").0;
    for token in [format!("{unsigned}."), unsigned.to_owned()] {
        games(&server, &token).await.assert_problem(401);
    }
    assert_eq!((status(&server, &rsa).await, status(&server, &curve).await), (200, 200));
}

fn file_content(file: &KeyFile) -> String {
    fs::read_to_string(&file.path).expect("text")
}

#[tokio::test]
async fn a_changed_file_replaces_the_keys_and_a_damaged_one_does_not() {
    let database = TestDatabase::new().await;
    let (old, new) = (Signer::es256(), Signer::eddsa());
    let file = KeyFile::new(&old.pem());
    let server = on(&database, file.as_str()).start().await;
    assert_eq!((status(&server, &old).await, status(&server, &new).await), (200, 401));
    file.replace(&new.pem());
    answered(&server, &new, 200).await;
    assert_eq!(status(&server, &old).await, 401);
    file.replace("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
    server.logs("cannot use the changed keys: keeping the old ones").await;
    assert_eq!(status(&server, &new).await, 200);
    // The keys in use are not those of the file: nothing confirms them.
    eventually("the age of the keys to grow", || async {
        let token = new.opening(&["*"]);
        let age = server.metric_with("datastream_token_keys_age_seconds", &token).await;
        (age > 5.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_unknown_key_is_refused_at_once_if_its_source_cannot_be_asked() {
    let database = TestDatabase::new().await;
    let file = KeyFile::new(&Signer::es256().pem());
    let secret = ("DATASTREAM_AUTH_SECRET", "a secret of at least 32 bytes in a test");
    for (name, value) in [secret, ("DATASTREAM_AUTH_KEYS", file.as_str())] {
        let server = TestServer::on(database.url()).env(name, value).start().await;
        let stranger = Signer::rs256().named("unknown");
        for _ in 0..3 {
            // An answer of a source would be waited for up to 6 s.
            let answered = tokio::time::timeout(Duration::from_secs(3), status(&server, &stranger));
            assert_eq!(answered.await.expect("an answer"), 401, "{name}");
        }
    }
}

#[tokio::test]
async fn keys_are_fetched_once_the_server_of_the_keys_is_up() {
    let database = TestDatabase::new().await;
    let (port, signer) = (free_port(), Signer::es256().named("a"));
    let url = format!("http://127.0.0.1:{port}/jwks.json");
    let server = on(&database, &url).start_unready().await;
    server.logs("cannot fetch the keys for tokens").await;
    let response = games(&server, &signer.opening(&["*"])).await;
    response.assert_problem(503);
    assert_eq!(response.json()["detail"], "the keys for tokens could not be fetched yet");
    assert!(!response.header("retry-after").is_empty());
    // No key is needed to refuse a request without a token.
    get(&server.http("/games")).await.assert_problem(401);
    eventually("/readyz to name the keys", async || {
        let response = get(&server.http("/readyz")).await;
        (response.status == 503 && response.body.contains("keys for tokens")).then_some(())
    })
    .await;
    let bearer = format!("Bearer {}", signer.opening(&["*"]));
    let url = server.http("/sse");
    // 503 would stop an EventSource for good.
    let mut sent_back = SseClient::connect_with(&url, &[("authorization", &bearer)]).await;
    assert_eq!(sent_back.status, 200);
    assert!(sent_back.ends_cleanly().await);
    let _jwks = JwksServer::on_port(port, Answer::Body(jwk_set([&signer]))).await;
    answered(&server, &signer, 200).await;
    server.ready().await;
}

#[tokio::test]
async fn a_bad_answer_has_no_keys_and_the_next_good_one_has() {
    let database = TestDatabase::new().await;
    let signer = Signer::es256().named("a");
    let set = jwk_set([&signer]);
    let secret = Signer::hs256("a secret of at least 32 bytes on a web site").named("a");
    let large = format!("{{\"keys\":[{}], \"x\": \"{}\"}}", signer.jwk(), "x".repeat(262_144));
    for bad in [
        Answer::Silence,
        Answer::Drip(set.clone()),
        Answer::Raw("nonsense\r\n\r\n".to_owned()),
        Answer::Raw("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{".to_owned()),
        Answer::Body("<html>".to_owned()),
        Answer::Body("{\"keys\":[]}".to_owned()),
        Answer::Body(large),
        Answer::Body(signer.pem()),
        Answer::Body(jwk_set([&secret])),
    ] {
        let jwks = JwksServer::start(bad.clone()).await;
        let server = on(&database, &jwks.url).start_unready().await;
        server.logs("cannot fetch the keys for tokens").await;
        assert_eq!(status(&server, &secret).await, 503, "{bad:?}");
        assert_eq!(status(&server, &signer).await, 503, "{bad:?}");
        jwks.answer(Answer::Body(set.clone()));
        answered(&server, &signer, 200).await;
    }
}

#[tokio::test]
async fn a_rotated_key_is_known_at_its_first_token_and_a_flood_causes_one_fetch() {
    let database = TestDatabase::new().await;
    let (old, new) = (Signer::es256().named("old"), Signer::es256().named("new"));
    let jwks = JwksServer::start(Answer::Body(jwk_set([&old]))).await;
    let server = on(&database, &jwks.url).start().await;
    answered(&server, &old, 200).await;
    let before = jwks.requests();
    jwks.answer(Answer::Body(jwk_set([&old, &new])));
    assert_eq!(status(&server, &new).await, 200);
    assert_eq!(jwks.requests(), before + 1);
    let flood = (0..200).map(|number| {
        let unknown = Signer::es256().named(&format!("unknown-{number}"));
        let token = unknown.opening(&["*"]);
        let server = &server;
        async move { games(server, &token).await.status }
    });
    let statuses = futures_util::future::join_all(flood).await;
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(jwks.requests(), before + 1, "one fetch in 30 s");
    assert_eq!((status(&server, &old).await, status(&server, &new).await), (200, 200));
}

#[tokio::test]
async fn the_last_good_keys_stay_while_a_fetch_fails_and_all_who_wait_share_it() {
    let database = TestDatabase::new().await;
    let signer = Signer::es256().named("a");
    let jwks = JwksServer::start(Answer::Body(jwk_set([&signer]))).await;
    let server = on(&database, &jwks.url).start().await;
    answered(&server, &signer, 200).await;
    let before = jwks.requests();
    jwks.answer(Answer::Silence);
    let unknown = Signer::es256().named("b");
    let waiting = (0..20).map(|_| status(&server, &unknown));
    let statuses = futures_util::future::join_all(waiting).await;
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(jwks.requests(), before + 1, "single flight");
    server.logs("cannot fetch the keys for tokens").await;
    assert_eq!(status(&server, &signer).await, 200);
}

/// A redirect with usable keys in its body: one that accepts a redirect has keys, whether it reads the
/// body or follows the location.
fn redirect(status: &str, to: &str, keys: &str) -> Answer {
    Answer::Raw(format!(
        "HTTP/1.1 {status}\r\nlocation: {to}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{keys}",
        keys.len()
    ))
}

#[tokio::test]
async fn a_redirect_has_no_keys_although_its_body_and_its_location_have_some() {
    let database = TestDatabase::new().await;
    let signer = Signer::es256().named("a");
    let set = jwk_set([&signer]);
    let elsewhere = JwksServer::start(Answer::Body(set.clone())).await;
    for status in ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect"]
    {
        let jwks = JwksServer::start(redirect(status, &elsewhere.url, &set)).await;
        let server = on(&database, &jwks.url).start_unready().await;
        let line = server.logs("cannot fetch the keys for tokens").await;
        assert!(line.contains(status), "{line}");
        assert_eq!(self::status(&server, &signer).await, 503, "{status}");
        assert_eq!(elsewhere.requests(), 0, "{status} is followed");
    }
}

#[tokio::test]
async fn keys_are_fetched_and_rotated_over_https_and_a_flood_causes_one_fetch() {
    let (database, certificate) = (TestDatabase::new().await, KeysCertificate::default());
    let (old, new) = (Signer::es256().named("old"), Signer::rs256().named("new"));
    let jwks = JwksServer::with_tls(&certificate, Answer::Body(jwk_set([&old]))).await;
    assert!(jwks.url.starts_with("https://localhost:"), "{}", jwks.url);
    let server = on(&database, &jwks.url).env("SSL_CERT_FILE", certificate.file()).start().await;
    answered(&server, &old, 200).await;
    let before = jwks.requests();
    jwks.answer(Answer::Body(jwk_set([&new])));
    assert_eq!(status(&server, &new).await, 200);
    assert_eq!(status(&server, &old).await, 401, "it was withdrawn");
    let flood = (0..100).map(|number| {
        let unknown = Signer::es256().named(&format!("unknown-{number}"));
        let server = &server;
        async move { status(server, &unknown).await }
    });
    let statuses = futures_util::future::join_all(flood).await;
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(jwks.requests(), before + 1, "one fetch in 30 s");
}

#[tokio::test]
async fn keys_of_a_server_whose_certificate_is_not_trusted_are_not_fetched() {
    let (database, certificate) = (TestDatabase::new().await, KeysCertificate::default());
    let signer = Signer::es256().named("a");
    let jwks = JwksServer::with_tls(&certificate, Answer::Body(jwk_set([&signer]))).await;
    let (other, of_other_name) =
        (KeysCertificate::default(), jwks.url.replace("localhost", "127.0.0.1"));
    for (trusted, url) in [(&other, &jwks.url), (&certificate, &of_other_name)] {
        let server = on(&database, url).env("SSL_CERT_FILE", trusted.file()).start_unready().await;
        let line = server.logs("cannot fetch the keys for tokens").await;
        assert!(line.contains("certificate"), "{line}");
        assert_eq!(status(&server, &signer).await, 503);
    }
    assert_eq!(jwks.requests(), 0);
}

#[tokio::test]
async fn a_bad_answer_over_https_keeps_the_last_good_keys() {
    let (database, certificate) = (TestDatabase::new().await, KeysCertificate::default());
    let (signer, other) = (Signer::es256().named("a"), Signer::es256().named("b"));
    let (set, others) = (jwk_set([&signer]), jwk_set([&other]));
    let elsewhere = JwksServer::with_tls(&certificate, Answer::Body(others.clone())).await;
    let redirect = redirect("302 Found", &elsewhere.url, &others);
    for bad in [redirect, Answer::Silence, Answer::Body("garbage".to_owned())] {
        let jwks = JwksServer::with_tls(&certificate, Answer::Body(set.clone())).await;
        let trusted = certificate.file();
        let server = on(&database, &jwks.url).env("SSL_CERT_FILE", trusted).start().await;
        answered(&server, &signer, 200).await;
        let before = jwks.requests();
        jwks.answer(bad.clone());
        // Its key is not known, so that the server asks. A redirect names a server that has it.
        assert_eq!(status(&server, &other).await, 401, "{bad:?}");
        assert!(jwks.requests() > before, "{bad:?}");
        server.logs("cannot fetch the keys for tokens").await;
        assert_eq!((status(&server, &signer).await, status(&server, &other).await), (200, 401));
        assert_eq!(elsewhere.requests(), 0, "no redirect is followed");
    }
}
