import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from trainables.errors import TrainablesError
from trainables.export.hub_upload import HubUpload, check_repo


class Hub(ThreadingHTTPServer):
    """Answers on loopback what the hub answers to a first upload of small files; keeps what came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.seen: list[tuple[str, bytes]] = []
        self.refuses = False


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Hub)
        self._answer({}, 403 if self.server.refuses else 200)

    def do_POST(self) -> None:
        assert isinstance(self.server, Hub)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, body))
        if self.server.refuses:
            self._answer({"error": "no rights"}, 403)
        elif self.path.endswith("/repos/create"):
            self._answer({"url": "https://huggingface.co/ana/tumor"})
        elif "/preupload/" in self.path:
            names = [each["path"] for each in json.loads(body)["files"]]
            self._answer({"files": [{"path": each, "uploadMode": "regular", "shouldIgnore": False} for each in names]})
        elif "/commit/" in self.path:
            self._answer({"commitUrl": "https://huggingface.co/ana/tumor/commit/1", "commitOid": "1", "success": True})
        else:
            self._answer({})

    def _answer(self, content: dict[str, Any], code: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def export(tmp_path: Path) -> Path:
    (tmp_path / "out" / "onnx").mkdir(parents=True)
    (tmp_path / "out" / "README.md").write_text("# card\n")
    (tmp_path / "out" / "onnx" / "decoder.onnx").write_bytes(b"x" * 20_000)
    return tmp_path / "out"


def test_what_is_listed_is_what_is_sent(hub: Hub, export: Path) -> None:
    upload = HubUpload.of(export, "ana/tumor")
    lines = "\n".join(upload.to_lines())
    for part in ("2 files", "ana/tumor", "onnx/decoder.onnx      0.020 MB", "Apache-2.0", "private", "no image"):
        assert part.lower() in lines.lower().replace("no file is an image", "no image")
    assert not hub.seen
    assert upload.send() == "https://huggingface.co/ana/tumor/commit/1"
    (created,) = (json.loads(body) for path, body in hub.seen if path.endswith("/repos/create"))
    assert created.get("visibility") == "private" or created.get("private") is True  # by the library's version
    (commit,) = (body for path, body in hub.seen if "/commit/" in path)
    sent = [json.loads(line)["value"] for line in commit.splitlines() if json.loads(line)["key"] == "file"]
    assert {each["path"]: len(base64.b64decode(each["content"])) for each in sent} == upload.files


def test_a_refusal_of_the_hub_is_one_line(hub: Hub, export: Path) -> None:
    hub.refuses = True
    with pytest.raises(TrainablesError, match="upload to ana/tumor failed: .*403"):
        HubUpload.of(export, "ana/tumor").send()


def test_name_and_token_are_checked_on_this_machine(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert check_repo("ana/tumor") == []
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    found = check_repo("ana//tumor")
    assert "no name of a repository" in found[0].what and "hf auth login" in found[1].fix
    assert not hub.seen
