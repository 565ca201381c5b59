"""An HTTP server on this machine in the place of a mirror."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


class Served:
    """What a server has: contents by path, headers for all of them, and the paths it was asked for."""

    def __init__(self) -> None:
        self.address = ""
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, str] = {}
        self.missing = 0  # bytes that are announced and never sent
        self.delay = 0.0  # seconds before each answer
        self.asked: list[str] = []
        self.closing = Event()

    def put(self, folder: str, files: dict[str, bytes]) -> str:
        """Serve the files in a folder; its address, with {} for the file's name."""
        self.files |= {f"/{folder}/{name}": content for name, content in files.items()}
        return f"{self.address}/{folder}/{{}}"


@contextmanager
def served() -> Iterator[Served]:
    """A server for as long as the context is open."""
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            state.closing.wait(state.delay)
            content = state.files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"") + state.missing))
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content or b"")
            self.wfile.flush()
            if state.missing:
                state.closing.wait(60)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.address = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield state
        state.closing.set()
        server.shutdown()
        thread.join()
