//! The API documents name what the sources have: routes and query parameters.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::{ROOT, sources};

/// The query parameters of the contract.
const PARAMETERS: [&str; 8] =
    ["game", "type", "after", "lastEventId", "seed", "token", "limit", "before"];

/// The NOTIFY channel.
const NOT_METRICS: [&str; 1] = ["datastream_rounds"];

fn document(name: &str) -> Value {
    let path = Path::new(ROOT).join("src/http/api").join(name);
    serde_json::from_str(&fs::read_to_string(path).expect(name)).expect("JSON")
}

/// The paths of OpenAPI and the addresses of AsyncAPI's channels.
fn documented() -> (BTreeSet<String>, BTreeSet<String>) {
    let (open, channels) = (document("openapi.json"), document("asyncapi.json"));
    let paths = open["paths"].as_object().expect("paths").keys().cloned().collect();
    let channels = channels["channels"].as_object().expect("channels").values();
    let address = |channel: &Value| channel["address"].as_str().expect("an address").to_owned();
    (paths, channels.map(address).collect())
}

/// Every literal path of `src/http` that is a route, by the calls and tables that declare routes.
fn routes() -> BTreeSet<String> {
    let http = sources("src/http");
    let mut found = BTreeSet::new();
    for source in &http {
        for (start, end) in [(".route(\"", "\""), ("asset(\"", "\""), ("path: \"", "\"")] {
            let calls = source.program().split(start).skip(1);
            found.extend(calls.filter_map(|rest| Some(rest.split_once(end)?.0.to_owned())));
        }
        let tables = source.program().split("(\"/").skip(1);
        let tables = tables.filter_map(|rest| Some(format!("/{}", rest.split_once('"')?.0)));
        found.extend(tables.filter(|path| path.ends_with(".json")));
    }
    let one = |path: String| if path.starts_with("/page/") { "/page/{file}".into() } else { path };
    found.into_iter().map(one).filter(|path| path.starts_with('/')).collect()
}

#[test]
fn the_api_documents_have_every_route_and_no_other() {
    let (paths, channels) = documented();
    let is_stream = |path: &&String| {
        ["/ws", "/sse", "/wt"].iter().any(|start| path.starts_with(start))
            && !path.ends_with("certificate")
    };
    let routes = routes();
    assert!(routes.len() > 15, "{routes:?}");
    let by_http: BTreeSet<_> = paths.iter().filter(|path| !path.starts_with("/wt")).collect();
    let of_http = routes.iter().filter(|path| !path.starts_with("/wt"));
    assert_eq!(by_http, of_http.collect());
    assert!(paths.contains("/wt/certificate"));
    assert_eq!(channels.iter().collect::<BTreeSet<_>>(), routes.iter().filter(is_stream).collect());
}

#[test]
fn the_api_documents_have_every_query_parameter_that_the_code_reads() {
    let code: String =
        sources("src/http").iter().map(|source| source.program().to_owned()).collect();
    let open = document("openapi.json");
    let parameters = open["components"]["parameters"].as_object().expect("parameters").values();
    let in_query = parameters.filter(|parameter| parameter["in"] == "query");
    let documented: BTreeSet<_> = in_query.filter_map(|it| it["name"].as_str()).collect();
    let read = PARAMETERS.into_iter().filter(|name| code.contains(&format!("\"{name}\"")));
    assert_eq!(documented, read.collect());
}

/// The files with the calls of the macro `metric_set!`, and the prefix of their metrics.
const METRICS: [(&str, &str); 2] = [("metrics", "datastream_"), ("bus_metrics", "datastream_bus_")];

/// The metrics that the program declares: the lines of the macro with a help text.
fn declared_metrics() -> BTreeSet<String> {
    let declared = |(file, prefix): (&str, &str)| {
        let path = Path::new(ROOT).join(format!("src/ops/telemetry/{file}.rs"));
        let text = fs::read_to_string(path).expect("metrics");
        let lines = text.split("\nmetric_set! {\n").nth(1).expect("the macro's call").lines();
        let declarations =
            lines.take_while(|line| *line != "}").filter(|line| line.contains(" = "));
        let names = declarations.filter_map(|line| Some(line.trim().split_once(": ")?.0));
        names.map(|name| format!("{prefix}{name}")).collect::<Vec<_>>()
    };
    METRICS.into_iter().flat_map(declared).collect()
}

/// The names of metrics in a text, without the suffixes of a histogram's series.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c: char| !is_name(c));
    let names = words.filter(|word| word.starts_with("datastream_") && word.len() > 12);
    let base = |name: &str| match name.rsplit_once("_seconds_") {
        Some((base, "bucket" | "sum" | "count")) => format!("{base}_seconds"),
        _ => name.to_owned(),
    };
    names.map(base).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).expect(path)
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let page = read("docs/operations.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `datastream_"));
    let rows = rows.filter_map(|row| row.split(['`', '{', ' ']).next());
    let documented: BTreeSet<_> = rows.map(|name| format!("datastream_{name}")).collect();
    assert_eq!(documented, declared_metrics());
}

#[test]
fn alerts_and_dashboard_use_metrics_that_exist() {
    let declared = declared_metrics();
    for file in ["deploy/prometheus/alerts.yml", "deploy/grafana/datastream.json"] {
        let used = metrics_in(&read(file));
        assert!(used.len() > 10, "{file}: {used:?}");
        let unknown: Vec<_> =
            used.difference(&declared).filter(|it| !NOT_METRICS.contains(&it.as_str())).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn every_alert_has_a_test_and_a_row_in_the_documentation() {
    let alerts = read("deploy/prometheus/alerts.yml");
    let (tests, page) = (read("deploy/prometheus/alerts_test.yml"), read("docs/operations.md"));
    let names: Vec<_> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        for title in ["fires", "stays quiet"] {
            assert!(tests.contains(&format!("'{name} {title}'")), "{name} {title}");
        }
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

/// The tests that a table of the documentation names, without those that stand for a whole module.
fn tests_in(text: &str) -> Vec<String> {
    let last_cells =
        text.lines().filter_map(|line| line.trim_end_matches(" |").rsplit("| ").next());
    let names = last_cells.flat_map(|cell| cell.split('`'));
    let names = names.filter_map(|name| name.rsplit_once("::")).map(|(_, test)| test.to_owned());
    names.filter(|test| test != "*").collect()
}

#[test]
fn every_test_that_the_page_of_limits_names_exists() {
    let named = tests_in(&read("docs/limits.md"));
    assert!(named.len() > 30, "{named:?}");
    let sources: Vec<_> = ["src", "tests"].into_iter().flat_map(sources).collect();
    for test in named {
        let function = format!("fn {test}(");
        assert!(sources.iter().any(|source| source.text.contains(&function)), "{test}");
    }
}
