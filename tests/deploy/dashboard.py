#!/usr/bin/env python3
"""Asks Prometheus the queries of the dashboard, as Grafana would.

usage: dashboard.py check URL           fails unless every query is valid and each panel has data
       dashboard.py draw URL FILE.png   draws the panels (needs matplotlib)
"""
import datetime
import json
import pathlib
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

DASHBOARD = pathlib.Path(__file__).parents[2] / "deploy/grafana/datastream.json"
# Panels that are empty on a server to which nothing has happened yet.
MAY_BE_EMPTY = {"Streams closed", "Resumes", "Slow clients", "Rounds written to clients", "Commit to socket, p99"}


def query(url, path, **parameters):
    address = f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{parameters['query']}: {error.read().decode()}")


def expression(target, rate_interval):
    """The query with the dashboard's variables filled in."""
    values = {"$job": "datastream", "$instance": ".*", "$__rate_interval": rate_interval}
    text = target["expr"]
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def legend(target, labels):
    text = target["legendFormat"]
    for name, value in labels.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def shown(value, unit):
    """A single value, as Grafana prints its unit."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    return f"{value:.4g} {'s' if unit == 's' else ''}"


def check(url):
    panels = json.loads(DASHBOARD.read_text())["panels"]
    deadline = time.monotonic() + 20
    empty = set(panel["title"] for panel in panels)
    while empty - MAY_BE_EMPTY and time.monotonic() < deadline:
        for panel in panels:
            for target in panel["targets"]:
                if query(url, "query", query=expression(target, "4s")):
                    empty.discard(panel["title"])
        time.sleep(0.5)
    if empty - MAY_BE_EMPTY:
        sys.exit(f"no data: {sorted(empty - MAY_BE_EMPTY)}")
    print(f"{len(panels)} panels, empty: {sorted(empty)}")


def draw(url, file, seconds=300):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.dates as dates
    import matplotlib.pyplot as plot

    plot.style.use("dark_background")
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plot.figure(figsize=(24 * 0.75, height * 0.42), facecolor="#111217")
    figure.suptitle(dashboard["title"], x=0.02, ha="left", size=16)
    end = time.time()
    for panel in panels:
        at = panel["gridPos"]
        box = [(at["x"] + 0.6) / 24, 1 - (at["y"] + at["h"] - 0.9) / height * 0.97 - 0.03, (at["w"] - 1.2) / 24, (at["h"] - 2.2) / height * 0.97]
        axes = figure.add_axes(box, facecolor="#181b1f")
        axes.set_title(panel["title"], size=9, loc="left")
        unit = panel["fieldConfig"]["defaults"].get("unit", "short")
        if panel["type"] == "timeseries":
            for target in panel["targets"]:
                series = query(url, "query_range", query=expression(target, "20s"), start=end - seconds, end=end, step=2)
                for one in series:
                    moments = [datetime.datetime.fromtimestamp(float(t)) for t, _ in one["values"]]
                    axes.plot(moments, [float(v) for _, v in one["values"]], linewidth=1, label=legend(target, one["metric"]))
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
            axes.tick_params(labelsize=6)
            axes.set_ylabel(unit, size=6)
            axes.grid(alpha=0.15)
            if axes.lines:
                axes.legend(fontsize=6, loc="upper left", ncols=3, framealpha=0.3)
            continue
        axes.axis("off")
        results = query(url, "query", query=expression(panel["targets"][0], "20s"), time=end)
        if panel["type"] == "stat":
            text = shown(float(results[0]["value"][1]), unit) if results else "No data"
            axes.text(0.5, 0.5, text, size=20, ha="center", va="center")
        else:
            rows = ["   ".join(f"{k}={v}" for k, v in sorted(one["metric"].items()) if k not in ("__name__", "job")) for one in results]
            axes.text(0.0, 0.5, "\n".join(rows) or "No data", size=8, va="center")
    figure.savefig(file, dpi=65, facecolor=figure.get_facecolor())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["check", url]:
            check(url)
        case ["draw", url, file]:
            draw(url, file)
        case _:
            sys.exit(__doc__)
