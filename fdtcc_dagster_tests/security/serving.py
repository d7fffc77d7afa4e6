"""Real servers on loopback for what the sandbox does not do: a reverse proxy with TLS, and malicious servers."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import aiohttp
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextmanager
def serving(start: Callable[[], Awaitable[tuple[int, Callable[[], Awaitable[None]]]]]) -> Iterator[int]:
    """Run a server in a thread of its own; `start` gives its port and what stops it."""
    ready: Future[tuple[int, Callable[[], object]]] = Future()

    async def run() -> None:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        try:
            port, stop = await start()
        except BaseException as error:
            ready.set_exception(error)
            raise
        ready.set_result((port, lambda: loop.call_soon_threadsafe(stopped.set)))
        await stopped.wait()
        await stop()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    port, stop = ready.result(10)
    try:
        yield port
    finally:
        stop()
        thread.join()


@contextmanager
def http_server(handler: Handler, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve every request by one handler."""

    async def start() -> tuple[int, Callable[[], Awaitable[None]]]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        return runner.addresses[0][1], runner.cleanup

    with serving(start) as port:
        yield port


@contextmanager
def tcp_server(answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> Iterator[int]:
    """Serve every connection by one function."""

    async def start() -> tuple[int, Callable[[], Awaitable[None]]]:
        answering: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            answering[asyncio.current_task()] = writer
            try:
                await answer(reader, writer)
            except ConnectionError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)

        async def stop() -> None:
            server.close()
            for writer in answering.values():
                # Whatever nobody has read is dropped; otherwise the sockets would outlive their loop.
                writer.transport.abort()
            await asyncio.gather(*filter(None, answering))

        return server.sockets[0].getsockname()[1], stop

    with serving(start) as port:
        yield port


class ReverseProxy:
    """What stands in front of a container: it ends TLS and lets nobody through without the right headers.

    Attributes:
        seen: The headers of each request, by path.
        refusal: The status for requests without them.
        let_through: Those of a path that ends so need none.
    """

    def __init__(self, upstream: str, required: dict[str, str] | None = None) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.refusal = 401
        self.let_through: str | None = None
        self._upstream = upstream
        self._required = required or {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.path, dict(request.headers)))
        free = self.let_through is not None and request.path.endswith(self.let_through)
        if not free and any(request.headers.get(name) != value for name, value in self._required.items()):
            return web.Response(status=self.refusal, text=f"not with {dict(request.headers)}")
        async with aiohttp.ClientSession() as session:
            url = f"{self._upstream}{request.path_qs}"
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._websocket(request, session, url)
            async with session.get(url) as answer:
                response = web.StreamResponse(status=answer.status)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response

    async def _websocket(self, request: web.Request, session: aiohttp.ClientSession, url: str) -> web.StreamResponse:
        outside = web.WebSocketResponse()
        async with session.ws_connect(url) as inside:
            await outside.prepare(request)
            copies = [asyncio.create_task(_copy(outside, inside)), asyncio.create_task(_copy(inside, outside))]
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
            for copy in copies:
                copy.cancel()
        return outside


async def _copy(source: Any, target: Any) -> None:
    async for message in source:
        await target.send_str(message.data)
