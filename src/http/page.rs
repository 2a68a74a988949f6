//! `GET /`: the live page, its files, and the JavaScript client that it uses, `/client.js`.
//!
//! All files are compiled into the program, so that the page needs no installation and no other
//! server. `clients/js/build.js` builds the file of the client.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::SharedState;
use crate::config::NodeName;

/// Permits only files of this server, no inline code, and no embedding of the page in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'; connect-src 'self'";
/// Browsers revalidate on each load and get 304, so that page and client have the same version.
const CACHE: HeaderValue = HeaderValue::from_static("no-cache");

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file of the page.
#[derive(Clone)]
struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: Cow<'static, [u8]>,
    /// The compressed bytes, if the build made them.
    gzip: Option<&'static [u8]>,
}

impl Asset {
    fn body(&self) -> Bytes {
        match &self.bytes {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::copy_from_slice(bytes),
        }
    }
}

const fn asset(path: &'static str, kind: &'static str, bytes: &'static [u8]) -> Asset {
    Asset { path, kind, bytes: Cow::Borrowed(bytes), gzip: None }
}

/// A file of the folder `page`.
macro_rules! page_file {
    ($name:literal, $kind:expr) => {
        asset(concat!("/page/", $name), $kind, include_bytes!(concat!("page/", $name)))
    };
}

static INDEX: Asset = asset("/", HTML, include_bytes!("page/index.html"));
static ASSETS: [Asset; 22] = [
    Asset {
        path: "/client.js",
        kind: SCRIPT,
        bytes: Cow::Borrowed(include_bytes!("../../clients/js/dist/client.js")),
        gzip: Some(include_bytes!("../../clients/js/dist/client.js.gz")),
    },
    // The client loads it if WebTransport is used.
    asset(
        "/client-webtransport.js",
        SCRIPT,
        include_bytes!("../../clients/js/dist/client-webtransport.js"),
    ),
    page_file!("main.js", SCRIPT),
    page_file!("banner.js", SCRIPT),
    page_file!("cards.js", SCRIPT),
    page_file!("debug.js", SCRIPT),
    page_file!("elements.js", SCRIPT),
    page_file!("extras.js", SCRIPT),
    page_file!("figures.js", SCRIPT),
    page_file!("games.js", SCRIPT),
    page_file!("list.js", SCRIPT),
    page_file!("live.js", SCRIPT),
    page_file!("plot.js", SCRIPT),
    page_file!("recent.js", SCRIPT),
    page_file!("results.js", SCRIPT),
    page_file!("selection.js", SCRIPT),
    page_file!("whole.js", SCRIPT),
    page_file!("uplot.js", SCRIPT),
    page_file!("page.css", STYLE),
    page_file!("panels.css", STYLE),
    page_file!("uplot.css", STYLE),
    page_file!("favicon.svg", IMAGE),
];

pub(super) fn router() -> Router<SharedState> {
    let index = Arc::new(TaggedAsset::new(INDEX.clone()));
    let page = |headers: HeaderMap| async move {
        let policy = policy(&headers);
        let policies = [
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        (policies, index.answer(&headers)).into_response()
    };
    let files = ASSETS.iter().fold(Router::new(), |router, asset| {
        let path = asset.path;
        let tagged = Arc::new(TaggedAsset::new(asset.clone()));
        router.route(path, get(|headers: HeaderMap| async move { tagged.answer(&headers) }))
    });
    files.route("/", get(page)).route("/page/transports.js", get(transports))
}

/// The transports of this server, best first, and its name if it is one of several edges.
async fn transports(State(state): State<SharedState>, headers: HeaderMap) -> Response {
    let text = offered(state.web_transport.is_some(), state.bus.edge());
    let bytes = Cow::Owned(text.into_bytes());
    let asset = Asset { path: "/page/transports.js", kind: SCRIPT, bytes, gzip: None };
    TaggedAsset::new(asset).answer(&headers)
}

/// Without the list, the page would request the certificate of a server without WebTransport, and
/// browsers show that 404 as an error in the console.
fn offered(has_web_transport: bool, edge: Option<&NodeName>) -> String {
    let first = if has_web_transport { "'webtransport', " } else { "" };
    // The characters of a name need no escape.
    let node = edge.map(|node| format!("export const NODE = '{node}';\n"));
    format!("export const OFFERED = [{first}'websocket', 'sse'];\n{}", node.unwrap_or_default())
}

/// The policy for the host of the request. It adds WebTransport, which has another port, and `ws:`,
/// which some browsers do not count as the same origin. The grammar of the policy has no IPv6
/// addresses: such a host gets no WebTransport.
fn policy(headers: &HeaderMap) -> HeaderValue {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
    if name.is_empty() || !host.bytes().all(known) {
        return HeaderValue::from_static(POLICY);
    }
    let policy = format!("{POLICY} ws://{host} wss://{host} https://{name}:*");
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static(POLICY))
}

/// A file with its entity tag.
struct TaggedAsset {
    asset: Asset,
    tag: HeaderValue,
}

impl TaggedAsset {
    fn new(asset: Asset) -> Self {
        let tag = format!("\"{:016x}\"", fingerprint(&asset.bytes));
        let tag = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""));
        Self { asset, tag }
    }

    fn answer(&self, request: &HeaderMap) -> Response {
        let gzip = self.asset.gzip.filter(|_| accepts_gzip(request));
        let mut headers = HeaderMap::from_iter([
            (header::CACHE_CONTROL, CACHE),
            // Weak, because it is also the tag of the compressed bytes.
            (header::ETAG, weak(&self.tag)),
        ]);
        if self.asset.gzip.is_some() {
            let accept = HeaderValue::from_static("accept-encoding");
            headers.insert(header::VARY, accept);
        }
        if has_current(request, &self.tag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.asset.kind));
        if gzip.is_some() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        (headers, gzip.map_or_else(|| self.asset.body(), Bytes::from_static)).into_response()
    }
}

fn weak(tag: &HeaderValue) -> HeaderValue {
    let weak = [b"W/", tag.as_bytes()].concat();
    HeaderValue::from_bytes(&weak).unwrap_or_else(|_| tag.clone())
}

/// Whether the client has this content already.
fn has_current(request: &HeaderMap, tag: &HeaderValue) -> bool {
    let tag = tag.to_str().unwrap_or_default();
    let listed = |list: &HeaderValue| {
        let names = list.to_str().unwrap_or_default().split(',').map(str::trim);
        names.into_iter().any(|name| name == "*" || name.trim_start_matches("W/") == tag)
    };
    request.get_all(header::IF_NONE_MATCH).iter().any(listed)
}

/// Whether the request accepts `gzip`; `gzip;q=0` refuses it.
fn accepts_gzip(request: &HeaderMap) -> bool {
    let listed = |list: &HeaderValue| {
        list.to_str().unwrap_or_default().split(',').any(|part| {
            let (name, quality) = part.split_once(';').unwrap_or((part, ""));
            let refused = quality.trim().trim_start_matches("q=").parse() == Ok(0.0);
            name.trim().eq_ignore_ascii_case("gzip") && !refused
        })
    };
    request.get_all(header::ACCEPT_ENCODING).iter().any(listed)
}

/// FNV-1a, 64 bits: equal bytes have equal tags in every build.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    /// The most bytes of the compressed client, which a page loads before it connects.
    const CLIENT_BYTES_MAX: usize = 4500;

    fn request(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::try_from(value).expect("a value"))])
    }

    #[test]
    fn the_client_is_small() {
        let gzip = ASSETS[0].gzip.expect("compressed");
        assert!(gzip.len() < CLIENT_BYTES_MAX, "{} bytes", gzip.len());
    }

    #[test]
    fn the_markup_has_no_inline_code_or_style() {
        let page = std::str::from_utf8(&INDEX.bytes).expect("UTF-8");
        for forbidden in ["<style", " style=", "onclick", "javascript:", "<script>", "//cdn"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn the_page_names_each_of_its_modules_so_that_they_load_together() {
        let page = std::str::from_utf8(&INDEX.bytes).expect("UTF-8");
        let scripts = ASSETS.iter().filter(|asset| asset.kind == SCRIPT);
        for asset in scripts.filter(|asset| asset.path != "/client-webtransport.js") {
            assert!(page.contains(&format!("\"{}\"", &asset.path[1..])), "{}", asset.path);
        }
    }

    #[test]
    fn the_page_learns_the_transports_and_the_name_of_an_edge() {
        let edge: NodeName = "edge-eu.1".parse().expect("a name");
        let alone = "export const OFFERED = ['websocket', 'sse'];\n";
        assert_eq!(offered(false, None), alone);
        let named = "export const OFFERED = ['webtransport', 'websocket', 'sse'];\nexport const NODE = 'edge-eu.1';\n";
        assert_eq!(offered(true, Some(&edge)), named);
    }

    #[test]
    fn a_client_with_the_current_file_gets_304() {
        let tagged = TaggedAsset::new(ASSETS[0].clone());
        let first = tagged.answer(&HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        assert!(!first.headers().contains_key(header::CONTENT_ENCODING));
        let tag = first.headers()[header::ETAG].to_str().expect("a tag");
        let second = tagged.answer(&request(header::IF_NONE_MATCH, tag));
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
        let other = tagged.answer(&request(header::IF_NONE_MATCH, "\"other\""));
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[test]
    fn gzip_is_sent_to_a_client_that_accepts_it() {
        let tagged = TaggedAsset::new(ASSETS[0].clone());
        let answer = tagged.answer(&request(header::ACCEPT_ENCODING, "br, gzip;q=0.8"));
        assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip");
        let answer = tagged.answer(&request(header::ACCEPT_ENCODING, "br, gzip;q=0"));
        assert!(!answer.headers().contains_key(header::CONTENT_ENCODING));
    }

    #[test]
    fn the_policy_names_the_host_only_if_the_grammar_permits_it() {
        let named = policy(&request(header::HOST, "play.example:8080"));
        let named = named.to_str().expect("text");
        assert!(named.ends_with(
            "connect-src 'self' ws://play.example:8080 wss://play.example:8080 https://play.example:*"
        ));
        for odd in ["a; script-src *", "[::1]:3000", ""] {
            assert_eq!(policy(&request(header::HOST, odd)), POLICY, "{odd}");
        }
    }
}
