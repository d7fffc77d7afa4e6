"""An S3 API server in memory: moto's, by `python -m benchmarks.s3`."""

from __future__ import annotations

import sys
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from benchmarks.processes import HOST


class _Silent(WSGIRequestHandler):
    def log(self, *arguments: Any) -> None:
        pass


def main() -> None:
    """Serve until the process is ended."""
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server(HOST, 0, application, threaded=True, request_handler=_Silent)
    sys.stdout.write(f"s3 ready at {HOST}:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
