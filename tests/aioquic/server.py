"""The real binary on ports of its own, and the game that writes rounds."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.request


def sql(text):
    """Runs SQL as the game would; what it returns, as text."""
    command = [os.environ["PSQL"], "-XqtA", "-v", "ON_ERROR_STOP=1", "-d", "play", "-c", text]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def finish(game, count=1, extras="{}"):
    """Inserts finished rounds; their ids."""
    rows = f"select id, now(), '{extras}'::jsonb from games, generate_series(1, {count}) where slug = '{game}'"
    inserted = sql(f"insert into rounds (game_id, finished_at, extras) {rows} returning id")
    return [int(line) for line in inserted.splitlines()]


def finish_each(game, count, rounds=1, extras="{}", pause=0.02):
    """The same `count` times, a transaction each, by one psql: starting one takes long on a busy machine."""
    rows = f"select id, now(), '{extras}'::jsonb from games, generate_series(1, {rounds}) where slug = '{game}'"
    insert = f"insert into rounds (game_id, finished_at, extras) {rows} returning id;\n"
    script = f"{insert}select from pg_sleep({pause});\n" * count
    command = [os.environ["PSQL"], "-XqtA", "-v", "ON_ERROR_STOP=1", "-d", "play"]
    written = subprocess.run(command, check=True, capture_output=True, text=True, input=script).stdout
    return [int(line) for line in written.split()]


class Server:
    def __init__(self, **env):
        settings = {"PATH": os.environ["PATH"], "NO_COLOR": "1", "DATABASE_URL": os.environ["DATABASE_URL"],
                    "DATASTREAM_HTTP_ADDR": "127.0.0.1:0", "DATASTREAM_WT_ENABLED": "true",
                    "DATASTREAM_WT_ADDR": "[::]:0", **env}
        self.log = []
        self.process = subprocess.Popen([os.environ["DATASTREAM"], "serve"], env=settings, cwd="/", text=True,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()
        self.http = f"http://127.0.0.1:{self._port('http.addr')}"
        self.port = int(self._port("wt.addr"))
        self.wait("readiness", lambda: self.get("/readyz"))

    def _port(self, field):
        return self.wait(field, lambda: next(
            (found[1] for line in list(self.log) if (found := re.search(rf"{re.escape(field)}=\S*:(\d+)", line))), None))

    def get(self, path):
        with urllib.request.urlopen(self.http + path, timeout=5) as answer:
            return answer.read().decode()

    def certificate(self):
        return json.loads(self.get("/wt/certificate"))

    def metric(self, name):
        for line in self.get("/metrics").splitlines():
            if line.startswith(name + " "):
                return float(line.split(" ")[1])
        return 0.0

    def memory_kb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        self.signal(signal.SIGTERM)
        return self.process.wait(20)

    @staticmethod
    def wait(what, look, limit=15):
        """Looks again and again until there is something."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            try:
                if found := look():
                    return found
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"waited {limit} s for {what}")
