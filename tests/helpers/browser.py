"""Pages in a real browser: Chromium, as Debian packages it, on a phone and on a desktop."""

import contextlib
import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no page gets an answer from another host
]
WIDTHS = 390, 1280
# Shows each page in frames of these widths, and records what `look` sees in each of them.
MEASURE = """<!doctype html><title>measure</title><link rel="icon" href="data:,">
FRAMES
<pre id="seen"></pre>
<script>
LOOK
addEventListener("load", () => {
  document.getElementById("seen").textContent = JSON.stringify(Array.from(window, look))
})
</script>"""


class Seen(NamedTuple):
    """Of each page the layouts on a phone and on a desktop; the lines on the console, and the requests' statuses."""

    pages: list[tuple[dict[str, Any], dict[str, Any]]]
    console: list[str]
    asked: list[tuple[str, int]]


class Site(NamedTuple):
    """A folder that is served, where, and what was asked of it."""

    folder: Path
    address: str
    asked: list[tuple[str, int]]

    def look(self, script: str, paths: list[str], *options: str) -> Seen:
        """Opens pages in the browser. The script defines `look`, a function of a window."""
        assert CHROMIUM
        frames = [
            f'<iframe src="{path}" width="{width}" height="800" frameborder="0"></iframe>'
            for path in paths
            for width in WIDTHS
        ]
        page = MEASURE.replace("FRAMES", "\n".join(frames)).replace("LOOK", script)
        (self.folder / "measure.html").write_text(page)
        self.asked.clear()
        with tempfile.TemporaryDirectory() as profile:
            command = [CHROMIUM, *FLAGS, *options, f"--user-data-dir={profile}"]
            command += ["--dump-dom", f"{self.address}/measure.html"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        found = re.search(r'<pre id="seen">(.+?)</pre>', done.stdout, re.DOTALL)
        assert found, done.stdout
        layouts = json.loads(html.unescape(found[1]))
        pages = list(zip(layouts[::2], layouts[1::2], strict=True))
        console = re.findall(r"CONSOLE:\d+\] (.*)", done.stderr)
        return Seen(pages, console, [each for each in self.asked if each[0] != "/measure.html"])


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Site]:
    """Inside, a web server has the folder. A page can read its frames only if one server has both."""
    asked: list[tuple[str, int]] = []

    class Log(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            asked.append((self.path, int(code)))

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Log, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Site(folder, f"http://127.0.0.1:{server.server_port}", asked)
        finally:
            server.shutdown()
            thread.join()
