"""An npm registry of the tarballs in a folder, on this machine alone: `registry.py FOLDER PORTFILE`.

Serves until it is ended, and writes the port to PORTFILE. What it does not have is "not found".
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote


def main(folder: str, port_file: str) -> None:
    """Runs."""
    files = {each.name: each.read_bytes() for each in Path(folder).glob("*.tgz")}
    manifests: dict[str, dict[str, Any]] = {}
    for name in files:
        with tarfile.open(Path(folder) / name) as archive:
            member = archive.extractfile("package/package.json")
            assert member is not None
            manifests[name] = json.load(member)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0]).lstrip("/")
            if path.startswith("-/") and path[2:] in files:
                return self.answer(200, files[path[2:]], "application/octet-stream")
            versions = {}
            for file, manifest in manifests.items():
                if manifest["name"] == path:
                    digest = base64.b64encode(hashlib.sha512(files[file]).digest()).decode()
                    address = f"http://{self.headers['Host']}/-/{file}"
                    versions[manifest["version"]] = {**manifest, "dist": {"tarball": address, "integrity": f"sha512-{digest}"}}
            if not versions:
                return self.answer(404, b'{"error": "not found"}', "application/json")
            packument = {"name": path, "dist-tags": {"latest": max(versions)}, "versions": versions}
            return self.answer(200, json.dumps(packument).encode(), "application/json")

        def answer(self, status: int, content: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Path(port_file).write_text(str(server.server_port))
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
