//! Tokens in requests: where a token is found, what it opens, and the refusals.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{AppState, problem::Problem, selection::Parameters};
use crate::{
    access::{Permission, Refusal, Token},
    config::AccessConfig,
    stream::{feed::FeedError, topic::Selection},
};

/// The scheme of RFC 6750.
const BEARER: &str = "Bearer";
/// The subprotocol with which a page passes a token: browsers let it set no header.
const SUBPROTOCOL_TOKEN: &str = "bearer.";
/// Seconds after which a client may retry while the keys cannot be fetched.
const KEYS_RETRY_SECONDS: u8 = 2;

/// The kind of a route, which decides on the places for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteKind {
    /// Plain requests: `/rounds…`, `/games`, `/metrics`.
    Plain,
    /// `/ws…`.
    WebSocket,
    /// `/sse…`.
    Events,
    /// `/wt…`.
    WebTransport,
}

/// The places of a request that may hold a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presented<'a> {
    pub(super) kind: RouteKind,
    pub(super) headers: &'a HeaderMap,
    pub(super) parameters: &'a Parameters,
}

impl<'a> Presented<'a> {
    /// A plain request, whose query holds no token.
    pub(super) fn plain(headers: &'a HeaderMap) -> Self {
        const NONE: &Parameters = &Vec::new();
        Self { kind: RouteKind::Plain, headers, parameters: NONE }
    }

    /// The token of the first place that holds one. The others are not looked at, not even if that
    /// token is bad or empty: a client must know which of its tokens is used.
    fn token(self, cookie: Option<&str>, query: bool) -> Option<Token> {
        let in_query = match self.kind {
            RouteKind::Plain => false,
            RouteKind::WebSocket | RouteKind::Events => query,
            RouteKind::WebTransport => true,
        };
        let subprotocol = || (self.kind == RouteKind::WebSocket).then(|| subprotocol(self.headers));
        bearer(self.headers)
            .or_else(|| subprotocol().flatten())
            .or_else(|| of_cookie(self.headers, cookie?))
            .or_else(|| in_query.then(|| parameter(self.parameters)).flatten())
    }
}

/// `Authorization: Bearer`. Another scheme is that of a proxy, and counts as none.
fn bearer(headers: &HeaderMap) -> Option<Token> {
    headers.get_all(header::AUTHORIZATION).iter().find_map(|value| {
        let value = value.as_bytes().trim_ascii();
        let (scheme, token) = value.split_at_checked(BEARER.len())?;
        let is_bearer = scheme.eq_ignore_ascii_case(BEARER.as_bytes());
        let ends = token.first().is_none_or(|byte| *byte == b' ');
        (is_bearer && ends).then(|| Token::new(token.trim_ascii()))
    })
}

fn subprotocol(headers: &HeaderMap) -> Option<Token> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let offered = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut tokens =
        offered.filter_map(|offer| offer.trim_ascii().strip_prefix(SUBPROTOCOL_TOKEN.as_bytes()));
    tokens.next().map(Token::new)
}

/// RFC 6265 section 4.2.
fn of_cookie(headers: &HeaderMap, name: &str) -> Option<Token> {
    let lines = headers.get_all(header::COOKIE).iter();
    let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        Some(Token::new(quoted.unwrap_or(value)))
    })
}

fn parameter(parameters: &Parameters) -> Option<Token> {
    let mut values = parameters.iter().filter(|(name, _)| name == "token");
    values.next().map(|(_, value)| Token::new(value.as_str()))
}

impl AppState {
    /// What the token of a request opens: 401 without a valid one, and everything if tokens are
    /// off.
    pub(super) async fn permission(&self, presented: Presented<'_>) -> Result<Permission, Problem> {
        let Some(verifier) = &self.verifier else { return Ok(Permission::public()) };
        let AccessSettings { cookie, query } = &self.settings.access;
        let Some(token) = presented.token(cookie.as_deref(), *query) else {
            return Err(self.refused(Refusal::Missing));
        };
        verifier.verify(token).await.map_err(|refusal| self.refused(refusal))
    }

    /// The same for a request of this selection: 403 unless the token names all of it. A selection
    /// is never narrowed to what the token opens: the client would take it for all.
    pub(super) async fn permission_for(
        &self,
        selection: &Selection,
        presented: Presented<'_>,
    ) -> Result<Permission, Problem> {
        let permission = self.permission(presented).await?;
        if self.opens(&permission, selection).await? {
            return Ok(permission);
        }
        Err(self.refused(Refusal::NotAllowed))
    }

    /// The same for a request that needs everything.
    pub(super) async fn permission_for_all(&self, headers: &HeaderMap) -> Result<(), Problem> {
        self.permission_for(&Selection::default(), Presented::plain(headers)).await.map(drop)
    }

    async fn opens(&self, permission: &Permission, selection: &Selection) -> Result<bool, Problem> {
        if permission.opens_everything() {
            return Ok(true);
        }
        let is_everything = selection.games.is_empty() && selection.types.is_empty();
        if is_everything || !selection.types.iter().all(|kind| permission.opens_type(kind)) {
            return Ok(false);
        }
        for slug in &selection.games {
            if !permission.names_game(slug) && !self.opens_by_type(permission, slug).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the token opens all games of this game's type. A game that does not exist, and one
    /// of another type, are refused alike and as fast: the names of games are no client's business.
    async fn opens_by_type(&self, permission: &Permission, slug: &str) -> Result<bool, Problem> {
        if !permission.has_types() {
            return Ok(false);
        }
        match self.feed.game_if(slug, |game| permission.opens_type(&game.kind)).await {
            Ok(_) => Ok(true),
            Err(FeedError::Unknown(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn refused(&self, refusal: Refusal) -> Problem {
        self.metrics.count_token_refused(refusal.label());
        problem(refusal)
    }
}

/// The places for tokens that are configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccessSettings {
    /// The cookie.
    pub cookie: Option<String>,
    /// Whether `?token=` is read on `/ws` and `/sse`.
    pub query: bool,
}

impl From<&AccessConfig> for AccessSettings {
    fn from(config: &AccessConfig) -> Self {
        Self { cookie: config.cookie.clone(), query: config.query }
    }
}

/// RFC 6750 section 3.1: no error code for a request without a token.
fn problem(refusal: Refusal) -> Problem {
    const CHALLENGE: HeaderName = header::WWW_AUTHENTICATE;
    let challenge = |text| (CHALLENGE, HeaderValue::from_static(text));
    let detail = refusal.to_string();
    let (status, (name, value)) = match refusal {
        Refusal::NoKeys => return Problem::unavailable(detail, KEYS_RETRY_SECONDS).temporary(),
        Refusal::Missing => (StatusCode::UNAUTHORIZED, challenge("Bearer")),
        Refusal::NotAllowed => {
            (StatusCode::FORBIDDEN, challenge("Bearer error=\"insufficient_scope\""))
        }
        _ => (StatusCode::UNAUTHORIZED, challenge("Bearer error=\"invalid_token\"")),
    };
    Problem::new(status, detail).with(name, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: Option<&str> = Some("session");

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn found(
        kind: RouteKind,
        pairs: &[(&'static str, &'static str)],
        query: &str,
    ) -> Option<Token> {
        let parameters: Parameters = vec![("token".to_owned(), query.to_owned())];
        let headers = headers(pairs);
        Presented { kind, headers: &headers, parameters: &parameters }.token(COOKIE, true)
    }

    #[test]
    fn the_first_place_that_holds_a_token_wins() {
        let places = [
            ("authorization", "bearer a"),
            ("sec-websocket-protocol", "datastream, bearer.b"),
            ("cookie", "x=1; session=c"),
        ];
        for (skipped, expected) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let token = found(RouteKind::WebSocket, &places[skipped..], "d");
            assert_eq!(token, Some(Token::new(expected)));
        }
    }

    #[test]
    fn an_empty_token_is_a_bad_one_in_each_place_and_hides_those_after_it() {
        let places = [
            ("authorization", "Bearer "),
            ("sec-websocket-protocol", "datastream, bearer."),
            ("cookie", "session="),
        ];
        for skipped in 0..=places.len() {
            let token = found(RouteKind::WebSocket, &places[skipped..], "");
            assert_eq!(token, Some(Token::new("")), "{:?}", &places[skipped..]);
        }
        for (name, empty) in places {
            let token = found(RouteKind::WebSocket, &[(name, empty)], "good");
            assert_eq!(token, Some(Token::new("")), "{name}");
        }
    }

    #[test]
    fn another_scheme_counts_as_no_token() {
        for other in ["Basic dXNlcjpwYXNz", "Bearerx y", "Bear", "Negotiate"] {
            let headers = headers(&[("cookie", "session=c")]);
            let mut headers = headers;
            headers.insert("authorization", HeaderValue::from_static(other));
            let none: Parameters = Vec::new();
            let presented =
                Presented { kind: RouteKind::Plain, headers: &headers, parameters: &none };
            assert_eq!(presented.token(COOKIE, false), Some(Token::new("c")), "{other}");
        }
        assert_eq!(
            found(RouteKind::Plain, &[("authorization", "Bearer")], ""),
            Some(Token::new(""))
        );
    }

    #[test]
    fn a_query_is_read_on_the_routes_of_streams_only() {
        assert_eq!(found(RouteKind::Plain, &[], "d"), None);
        assert_eq!(found(RouteKind::WebTransport, &[], "d"), Some(Token::new("d")));
        let offered = [("sec-websocket-protocol", "bearer.b")];
        assert_eq!(found(RouteKind::Events, &offered, "d"), Some(Token::new("d")));
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        for (line, expected) in [
            ("asession=x; session=\"c\"", Some("c")),
            ("session2=x", None),
            ("session=", Some("")),
            ("session=; session=c", Some("")),
        ] {
            let token = found(RouteKind::Plain, &[("cookie", line)], "");
            assert_eq!(token, expected.map(Token::new), "{line}");
        }
    }
}
