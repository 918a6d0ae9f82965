"""A script without a main guard may read remote images with workers."""

import functools
import http.server
import subprocess
import sys
import threading

from PIL import Image

SCRIPT = """
import sys
from kinsight.data import read_records
from kinsight.data.loader import iterate
from kinsight.specs.data import ImageList, ImageSpec
print("started")
records = read_records(ImageList(path=sys.argv[1]))
print(sum(len(b) for b in iterate(records, ImageSpec(image_size=16), batch_size=4, workers=2)))
"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def test_workers_for_remote_images_do_not_run_the_script_again(tmp_path):
    for number in range(8):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "list.txt").write_text("".join(f"{number}.png {number % 2}\n" for number in range(8)))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/list.txt"
        run = subprocess.run([sys.executable, script, address], capture_output=True, text=True, timeout=120)
        server.shutdown()
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["started", "8"]
