//! The two formats of `/metrics`: Prometheus text 0.0.4 and OpenMetrics 1.0.
//!
//! The library writes OpenMetrics. The text format differs in a few lines: a counter's family has
//! the name of its samples (`…_total`), there is no type `info`, no unit and no end marker.

/// A format, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus text, which every scraper understands.
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Exposition {
    /// The format that an `Accept` header prefers (RFC 9110 section 12.5.1). Text if it names
    /// neither; of equals, the first.
    pub fn accepted(accept: &str) -> Self {
        let mut best = (0.0, Self::Text);
        for (quality, format) in accept.split(',').filter_map(media_range) {
            if quality > best.0 {
                best = (quality, format);
            }
        }
        best.1
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => TEXT,
            Self::OpenMetrics => OPEN_METRICS,
        }
    }

    /// The metrics in this format, from OpenMetrics as the library writes it.
    pub(super) fn render(self, open_metrics: &str) -> String {
        // The library prints Rust's `inf`, which only some parsers accept.
        let open_metrics = open_metrics.replace(" inf\n", " +Inf\n");
        match self {
            Self::Text => text(&open_metrics),
            Self::OpenMetrics => open_metrics,
        }
    }
}

/// The quality and the format of one media range; none if we do not have it.
fn media_range(range: &str) -> Option<(f32, Exposition)> {
    let mut parts = range.split(';').map(str::trim);
    let format = match parts.next()?.to_ascii_lowercase().as_str() {
        "application/openmetrics-text" => Exposition::OpenMetrics,
        "text/plain" | "text/*" | "*/*" => Exposition::Text,
        _ => return None,
    };
    let mut quality = 1.0;
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match (name.trim().to_ascii_lowercase().as_str(), value.trim().trim_matches('"')) {
            ("q", value) => quality = value.parse().ok()?,
            // A scraper that reads only a later version.
            ("version", version) if !has_version(format, version) => return None,
            _ => {}
        }
    }
    Some((quality, format))
}

fn has_version(format: Exposition, version: &str) -> bool {
    match format {
        Exposition::Text => matches!(version, "0.0.4" | "1.0.0"),
        Exposition::OpenMetrics => matches!(version, "0.0.1" | "1.0.0"),
    }
}

fn text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    let mut help = None;
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            help = Some(line);
        } else if let Some(family) = line.strip_prefix("# TYPE ") {
            describe(&mut text, help.take(), family);
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Writes a family's help and type with the name that its samples have.
fn describe(text: &mut String, help: Option<&str>, family: &str) {
    let Some((name, kind)) = family.split_once(' ') else { return };
    let (suffix, kind) = match kind {
        "counter" => ("_total", kind),
        "info" => ("_info", "gauge"),
        "unknown" => ("", "untyped"),
        _ => ("", kind),
    };
    let help = help.and_then(|line| line.splitn(4, ' ').nth(3)).unwrap_or_default();
    *text += &format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_the_format_that_it_prefers() {
        use Exposition::{OpenMetrics, Text};
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (prometheus, OpenMetrics),
            ("", Text),
            ("*/*", Text),
            ("text/plain", Text),
            ("text/html, */*;q=0.1", Text),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"", OpenMetrics),
            ("application/openmetrics-text; version=2.0.0, text/plain; q=0.1", Text),
            ("application/openmetrics-text;q=0.5, text/plain;q=0.9", Text),
            ("text/plain;q=0.5, application/openmetrics-text;q=0.9", OpenMetrics),
            ("application/openmetrics-text, text/plain", OpenMetrics),
            ("text/plain, application/openmetrics-text", Text),
            ("application/openmetrics-text;q=0", Text),
            ("application/openmetrics-text;q=x", Text),
            ("image/png", Text),
        ] {
            assert_eq!(Exposition::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn the_text_format_has_the_names_of_the_samples() {
        let open = "# HELP a Some help.\n# TYPE a counter\na_total{x=\"1\"} 5\n\
            # HELP b Build.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
            # HELP c_seconds Time.\n# TYPE c_seconds gauge\n# UNIT c_seconds seconds\nc_seconds inf\n\
            # EOF\n";
        let text = "# HELP a_total Some help.\n# TYPE a_total counter\na_total{x=\"1\"} 5\n\
            # HELP b_info Build.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
            # HELP c_seconds Time.\n# TYPE c_seconds gauge\nc_seconds +Inf\n";
        assert_eq!(Exposition::Text.render(open), text);
        assert_eq!(Exposition::OpenMetrics.render(open), open.replace("inf\n# E", "+Inf\n# E"));
    }
}
