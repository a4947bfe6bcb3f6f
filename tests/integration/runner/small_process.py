"""A process of a small platform: serves health like a real one, and behaves as files beside it say.

Copied into a folder of its own; `python -m NAME` there runs it under that name. Files: NAME.port, NAME.exit (ends with
that code at once), NAME.not_ready (the reason), NAME.deaf (does not end when asked), NAME.child (starts a grandchild
in its own group and notes its pid there), NAME.engine (the same in a session of its own). At its end it adds
its name to `ended`.
"""

import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path.cwd()


def read(name: str) -> str | None:
    file = HERE / name
    return file.read_text().strip() if file.exists() else None


def main(name: str) -> None:
    print(f'{{"message": "{name} starts"}}', file=sys.stderr, flush=True)
    if (code := read(f"{name}.exit")) is not None:
        print(f'{{"message": "{name} has its reasons"}}', file=sys.stderr, flush=True)
        sys.exit(int(code))
    if (HERE / f"{name}.child").exists():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (HERE / f"{name}.child").write_text(str(child.pid))

    if (HERE / f"{name}.engine").exists():
        engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        (HERE / f"{name}.engine").write_text(str(engine.pid))

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reason = read(f"{name}.not_ready")
            body = f'{{"status": "x", "reason": "{reason or ""}"}}'.encode()
            self.send_response(503 if reason is not None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", int(read(f"{name}.port") or 0)), Health)

    def end(*_: object) -> None:
        if read(f"{name}.deaf") is None:
            threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    server.serve_forever()
    with (HERE / "ended").open("a") as ended:
        ended.write(f"{name}\n")
