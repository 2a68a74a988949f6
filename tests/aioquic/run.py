"""Runs every case against the real binary; says how many passed. ONLY=TEXT picks cases."""

import asyncio
import os
import sys
import time
import traceback

from cases import CASES
from server import Server

LIMIT = 240


def main():
    passed = failed = 0
    server = Server()
    for case in CASES:
        title = case.__name__.replace("_", " ")
        if os.environ.get("ONLY", "") not in title:
            continue
        start = time.monotonic()
        try:
            asyncio.run(asyncio.wait_for(case(server), LIMIT))
            passed += 1
            print(f"ok      {title} ({time.monotonic() - start:.1f} s)", flush=True)
        except Exception:  # noqa: BLE001 - whatever it is, the other cases go on
            failed += 1
            print(f"FAILED  {title}\n{traceback.format_exc()}{''.join(server.log[-5:])}", flush=True)
    if server.stop() != 0:
        failed += 1
        print("FAILED  the server did not stop cleanly")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
