//! Bad tokens: each is refused alike on each transport, whichever source it comes from.

use reqwest::Method;
use serde_json::{Value, json};

use testkit::{
    Signer, TestDatabase, TestServer,
    http::request,
    token::{SECRET, in_seconds},
    wt_request,
};

const INVALID: &str = "Bearer error=\"invalid_token\"";
const SCOPE: &str = "Bearer error=\"insufficient_scope\"";

/// Where a request holds its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Header,
    Subprotocol,
    Cookie,
    Query,
}

impl Source {
    const ALL: [Self; 4] = [Self::Header, Self::Subprotocol, Self::Cookie, Self::Query];

    /// The header and the query that hold this token.
    fn present(self, token: &str) -> (Option<(&'static str, String)>, String) {
        match self {
            Self::Header => (Some(("authorization", format!("Bearer {token}"))), String::new()),
            Self::Subprotocol => {
                let offered = format!("datastream, bearer.{token}");
                (Some(("sec-websocket-protocol", offered)), String::new())
            }
            Self::Cookie => (Some(("cookie", format!("a=b; session={token}"))), String::new()),
            Self::Query => (None, format!("?token={token}")),
        }
    }
}

/// Each bad token, with its status, text and challenge.
fn bad_tokens() -> Vec<(String, u16, &'static str, &'static str)> {
    let signer = Signer::hs256(SECRET);
    let good = json!({ "exp": in_seconds(600), "datastream": "*", "aud": "feed", "iss": "login" });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        signer.token(&claims)
    };
    let other = Signer::hs256("another secret of 32 bytes or more").token(&good);
    let unsigned = signer.sign(&json!({ "alg": "none" }).to_string(), &good.to_string());
    vec![
        (String::new(), 401, "the token cannot be read", INVALID),
        ("nonsense".to_owned(), 401, "the token cannot be read", INVALID),
        (unsigned, 401, "the token cannot be read", INVALID),
        (other, 401, "the token's signature is of no known key", INVALID),
        (with("exp", Value::Null), 401, "the token has no exp", INVALID),
        (with("exp", in_seconds(-60).into()), 401, "the token has expired", INVALID),
        (with("nbf", in_seconds(60).into()), 401, "the token is not valid yet", INVALID),
        (with("aud", "others".into()), 401, "the token is for another audience", INVALID),
        (with("iss", "evil".into()), 401, "the token is of another issuer", INVALID),
        (
            with("datastream", "game:double".into()),
            403,
            "the token does not allow this selection",
            SCOPE,
        ),
    ]
}

#[tokio::test]
async fn each_bad_token_is_refused_alike_on_each_transport_from_each_source() {
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url())
        .env("DATASTREAM_AUTH_SECRET", SECRET)
        .env("DATASTREAM_AUTH_AUDIENCE", "feed")
        .env("DATASTREAM_AUTH_ISSUER", "login")
        .env("DATASTREAM_AUTH_COOKIE", "session")
        .env("DATASTREAM_AUTH_QUERY", "true")
        .env("DATASTREAM_ALLOWED_ORIGINS", "https://game.example")
        .web_transport()
        .start()
        .await;
    for (token, status, detail, challenge) in bad_tokens() {
        for source in Source::ALL {
            let (header, query) = source.present(&token);
            let headers: Vec<(&str, &str)> =
                header.iter().map(|(name, value)| (*name, value.as_str())).collect();
            for path in ["/ws/crash", "/sse/crash"] {
                if source == Source::Subprotocol && path.starts_with("/sse") {
                    continue;
                }
                let url = server.http(&format!("{path}{query}"));
                let response = request(&Method::GET, &url, &headers).await;
                response.assert_problem(status);
                let got = (response.json()["detail"].clone(), response.header("www-authenticate"));
                assert_eq!(got, (detail.into(), challenge), "{path} with {source:?}");
            }
            if source != Source::Subprotocol {
                let answer = wt_request(&server, &format!("/wt/crash{query}"), &headers).await;
                let got = (answer.status, answer.field("www-authenticate"));
                assert_eq!(got, (status, challenge), "/wt with {source:?}: {detail}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_of_8_kib_is_read_and_a_longer_one_is_not() {
    const MOST: usize = 8 * 1024;
    let database = TestDatabase::new().await;
    let server = TestServer::on(database.url()).env("DATASTREAM_AUTH_SECRET", SECRET).start().await;
    let signer = Signer::hs256(SECRET);
    let padded = |bytes: usize| {
        let (exp, pad) = (in_seconds(600), "x".repeat(bytes));
        signer.token(&json!({ "exp": exp, "datastream": "*", "pad": pad }))
    };
    let most = (0..MOST).rev().find(|bytes| padded(*bytes).len() <= MOST).expect("a token");
    for (bytes, status) in [(most, 200), (most + 4, 401)] {
        let bearer = format!("Bearer {}", padded(bytes));
        let headers = [("authorization", bearer.as_str())];
        let answer = request(&Method::GET, &server.http("/games"), &headers).await;
        assert_eq!(answer.status, status, "{} bytes", bearer.len());
    }
}
