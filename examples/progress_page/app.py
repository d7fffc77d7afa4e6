"""A web page that pulls a dataset, shows the progress, and offers the rows as a CSV file.

The page opens a WebSocket and sends what it wants. `get_single` passes each message of the container on to that socket,
as `{"message": …}`. The last message is ours: `{"done": …}` or `{"error": …}`. Leaving the page closes the socket: a
pull that is not complete is then cancelled, and the file is removed.

It reads `FDTCC_HOST` and `FDTCC_PORT`, where the container is; by default localhost:8888. `PAGE_HOSTS` are the names by
which browsers know this app, separated by commas; by default those of this machine.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field, ValidationError

from fdtcc_dagster import FDTCC

PAGE = Path(__file__).with_name("page.html")
app = FastAPI()
# A page of another site could otherwise be here under its own name, by an address that its name server changes.
app.add_middleware(TrustedHostMiddleware, allowed_hosts=os.environ.get("PAGE_HOSTS", "127.0.0.1,localhost").split(","))
files: dict[str, Path] = {}
"""What is in the page's link → the file behind it, as long as the page is open."""


class Wanted(BaseModel):
    """What a page asks for."""

    name: str
    start: str = Field(alias="from")
    end: str = Field(alias="to")


@app.get("/")
def page() -> FileResponse:
    """Send the page."""
    return FileResponse(PAGE)


@app.get("/files/{token}")
def file(token: str) -> FileResponse:
    """Send the rows of a pull, as CSV."""
    if token not in files:
        raise HTTPException(404, "The page of this pull has been left: pull once more.")
    return FileResponse(files[token], media_type="text/csv", filename=files[token].name)


@app.websocket("/pull")
async def pull(browser: WebSocket) -> None:
    """Pull a dataset for a page, until the page is left."""
    origin = browser.headers.get("origin")
    if origin and urlsplit(origin).netloc != browser.headers.get("host"):
        # A page of another site: browsers let those connect, too.
        await browser.close()
        return
    await browser.accept()
    try:
        wanted = Wanted.model_validate_json(await browser.receive_text())
    except WebSocketDisconnect:
        return
    except ValidationError as error:
        await browser.send_json({"error": f"Send a name, from and to: {error}"})
        await browser.close()
        return
    token = secrets.token_urlsafe()
    with tempfile.TemporaryDirectory() as directory:
        work = asyncio.create_task(pull_into(Path(directory), token, browser, wanted))
        try:
            while (await browser.receive())["type"] != "websocket.disconnect":
                pass
        finally:
            files.pop(token, None)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def pull_into(directory: Path, token: str, browser: WebSocket, wanted: Wanted) -> None:
    """Pull the rows into a file of a directory, and tell the page how it went."""
    causes = list[str]()

    def log(client: FDTCC, message: str) -> None:
        causes.append(message)

    client = FDTCC(
        os.environ.get("FDTCC_HOST", "localhost"),
        int(os.environ.get("FDTCC_PORT", "8888")),
        log_func=log,
        missing_version="raise",
    )
    answer: dict[str, Any]
    try:
        frame, done = await client.get_single(browser, wanted.name, wanted.start, wanted.end)
        if done:
            path = directory / f"{wanted.name.replace('/', '_')}.csv"
            await asyncio.to_thread(frame.write_csv, path)
            files[token] = path
            answer = {"done": {"rows": frame.height, "bytes": path.stat().st_size, "link": f"files/{token}"}}
        else:
            # The last thing that a failed pull logs is its cause.
            answer = {"error": causes[-1].removeprefix(f"get_single({wanted.name!r}) failed: ")}
    except (ValueError, OSError) as error:
        answer = {"error": str(error)}
    await browser.send_json(answer)
