"""The HTTP side: the handshake, the downloads, and the endpoints that do not work."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from fdtcc_dagster.sandbox.conversation import Conversation, abort
from fdtcc_dagster.sandbox.fault_hooks import BodyFault, CutOffError, DroppedError, HandshakeFault
from fdtcc_dagster.sandbox.service import Service, in_thread

_PREFIX = "/fdtc-api"
_POINTER = re.compile(r"[0-9a-f]{64}")
_CHUNK = 2 * 1024 * 1024
_BROKEN = ("versions", "download", "zip", "unzip")
_NOT_IMPLEMENTED = ("list", "info", "delete", "delete/raw", "delete/zip")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _CloseDelimited(web.StreamResponse):
    """A response whose body ends with the connection; aiohttp would otherwise send it chunked."""

    _length_check = False


class Server:
    """The handlers of one sandbox."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._transports: set[asyncio.Transport] = set()

    def application(self) -> web.Application:
        """Build the application."""
        application = web.Application(middlewares=[self._middleware])
        router = application.router
        router.add_get(f"{_PREFIX}/", self._health, allow_head=False)
        router.add_get(f"{_PREFIX}/dataset/get", self._get, allow_head=False)
        router.add_get(f"{_PREFIX}/dataset/download/csv/{{pointer}}", self._csv, allow_head=False)
        router.add_get(f"{_PREFIX}/dataset/download/zip/{{pointer}}", self._zip, allow_head=False)
        for endpoint in _BROKEN:
            router.add_route("*", f"{_PREFIX}/dataset/{endpoint}", _broken)
        for endpoint in _NOT_IMPLEMENTED:
            router.add_route("*", f"{_PREFIX}/dataset/{endpoint}", _not_implemented)
        application.on_shutdown.append(self._abort_all)
        return application

    async def _abort_all(self, _: web.Application) -> None:
        for transport in list(self._transports):
            abort(transport)

    @web.middleware
    async def _middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            raise ConnectionResetError("the client has gone")
        self._transports.add(transport)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _error(error.status)
        finally:
            self._transports.discard(transport)

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"online": True, "message": "The sandbox of fdtcc-dagster is online."})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        for fault in self._service.faults.take(HandshakeFault):
            try:
                status = await fault.refuse()
            except DroppedError:
                if request.transport is not None:
                    request.transport.close()
                return _error(503)
            if status is not None:
                return _error(status)
        websocket = web.WebSocketResponse(compress=False)
        transport = request.transport
        if isinstance(transport, asyncio.Transport):
            with self._service.seen.socket():
                await websocket.prepare(request)
                await Conversation(self._service, websocket, transport).run()
        return websocket

    async def _csv(self, request: web.Request) -> web.StreamResponse:
        return await self._download(request, "text/csv; charset=utf-8", zipped=False)

    async def _zip(self, request: web.Request) -> web.StreamResponse:
        return await self._download(request, "application/zip", zipped=True)

    async def _download(self, request: web.Request, content_type: str, *, zipped: bool) -> web.StreamResponse:
        pointer = request.match_info["pointer"]
        # Nothing but 64 hex digits ever gets near the file system.
        found = await in_thread(self._service.store.find, pointer) if _POINTER.fullmatch(pointer) else None
        if found is None:
            return _error(404, f"File for '{pointer}' not found.")
        blob, names = found
        faults = self._service.faults.take(BodyFault, names)
        for fault in faults:
            status = fault.refuse()
            if status is not None:
                return _error(status)
        path = await in_thread(self._service.blobs.zipped, blob) if zipped else blob.path
        self._service.seen.download(pointer)
        return await _send_file(request, path, content_type, faults)


async def _send_file(
    request: web.Request, path: Path, content_type: str, faults: list[BodyFault]
) -> web.StreamResponse:
    size = await in_thread(os.path.getsize, path)
    headers = {"Content-Type": content_type}
    for fault in faults:
        headers.update(fault.headers(size))
    response: web.StreamResponse
    if any(fault.close_delimited for fault in faults):
        response = _CloseDelimited(headers=headers)
        response.force_close()
    else:
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
    body = _read(path)
    for fault in faults:
        body = fault.alter(body, size)
    transport = request.transport
    await response.prepare(request)
    try:
        async for chunk in body:
            await response.write(chunk)
        await response.write_eof()
    except CutOffError:
        if transport is not None:
            # What was sent still arrives; what is missing is the last chunk that says "complete".
            transport.close()
    return response


async def _read(path: Path) -> AsyncIterator[bytes]:
    """Read a file in chunks, one ahead."""
    offset = 0
    ahead = asyncio.ensure_future(in_thread(_read_at, path, offset))
    try:
        while chunk := await ahead:
            offset += len(chunk)
            ahead = asyncio.ensure_future(in_thread(_read_at, path, offset))
            yield chunk
    finally:
        ahead.cancel()


def _read_at(path: Path, offset: int) -> bytes:
    # Opened anew for each chunk, so that a download that is cut off leaves no file open.
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(_CHUNK)


async def _broken(_: web.Request) -> web.Response:
    return web.Response(status=500, text="Internal Server Error")


async def _not_implemented(_: web.Request) -> web.Response:
    return _error(501, "not implemented")


def _error(status: int, detail: str | None = None) -> web.Response:
    return web.json_response({"detail": detail or HTTPStatus(status).phrase}, status=status)
