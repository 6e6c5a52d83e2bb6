"""What the demo's server takes from strangers: the ASGI application around Gradio's."""
import asyncio
import base64
import contextlib
import hashlib
import json
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, MutableMapping
from urllib.parse import urlsplit

from editing.uploads import MOST_BYTES

MOST_BODY = MOST_BYTES * 4 // 3 + 2**16  # an upload in base64, and what comes along
MOST_BODIES = 8 * MOST_BODY  # held at once, for whoever waits; of one address half as many
SMALL = 2**16  # bytes of a body that is not counted there: no upload
MOST_COMMAS = 2**14  # of JSON; a stroke has 4000. 20 MB of small values take seconds and half a gigabyte to parse
BODY_SECONDS = 60  # in which a request must be here
# who may wait for a drawing at once
MOST_OF_VISITOR, MOST_OF_ADDRESS, MOST_WAITING = 8, 64, 128

PREDICT = "/gradio_api/run/predict"
# what the page uses; all else is not found, whatever Gradio has to offer there
OPEN = (("GET", "/"), ("GET", r"/theme\.css"), ("GET", r"/assets/[\w./-]+"), ("GET", r"/static/[\w./-]+"),
        ("GET", r"/favicon\.ico"), ("GET", r"/manifest\.json"), ("POST", re.escape(PREDICT)))
_Message = MutableMapping[str, object]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


def is_open(method: str, path: str) -> bool:
    """Whether the page uses it."""
    return ".." not in path and any(method == verb and re.fullmatch(pattern, path) for verb, pattern in OPEN)


class Refused(Exception):
    """A request that is answered with a status and a few words."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class Turns:
    """One drawing at a time: addresses in turn, and the visitors of each in turn. Whoever asks often waits longer."""

    def __init__(self):
        self._busy = False
        self._waiting: dict[str, dict[str, deque[asyncio.Future]]] = {}

    @contextlib.asynccontextmanager
    async def of(self, address: str, visitor: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it. :raises Refused: too many wait already."""
        if self._busy:
            await self._wait(address, visitor)
        self._busy = True
        try:
            yield
        finally:
            self._next()

    async def _wait(self, address: str, visitor: str) -> None:
        visitors = self._waiting.get(address, {})
        of_address = sum(map(len, visitors.values()))
        everybody = sum(len(queue) for others in self._waiting.values() for queue in others.values())
        if (len(visitors.get(visitor, ())) >= MOST_OF_VISITOR or of_address >= MOST_OF_ADDRESS
                or everybody >= MOST_WAITING):
            raise Refused(503, "too many requests wait already; try again in a moment")
        place = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(address, {}).setdefault(visitor, deque())
        queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._next()  # the turn came too late
            else:
                with contextlib.suppress(ValueError):
                    queue.remove(place)
                self._forget(address, visitor)
            raise

    def _next(self) -> None:
        """Give the turn to who is first; behind all others are then that visitor, and that address."""
        self._busy = False
        while self._waiting and not self._busy:
            address, visitors = next(iter(self._waiting.items()))
            visitor, queue = next(iter(visitors.items()))
            place = queue.popleft()
            visitors[visitor] = visitors.pop(visitor)
            self._waiting[address] = self._waiting.pop(address)
            self._forget(address, visitor)
            if not place.done():
                place.set_result(None)
                self._busy = True

    def _forget(self, address: str, visitor: str) -> None:
        visitors = self._waiting.get(address, {})
        if not visitors.get(visitor, True):
            del visitors[visitor]
        if not visitors:
            self._waiting.pop(address, None)


class LimitedRequests:
    """ASGI application: lets through what the page uses, from browsers that were sent here, within limits.

    :param names: host names under which browsers may reach the server; IP addresses always may, because no other
        website can have their pages.
    :param fronts: further ones, of web servers in front of it, which may have ports of their own.
    """

    def __init__(self, app: _App, names: Collection[str], fronts: Collection[str] = ()):
        self.app, self._turns = app, Turns()
        self._fronts = {name.lower() for name in fronts}
        self._names = self._fronts | {name.lower() for name in names}
        self._held: Counter[str] = Counter()  # bytes of bodies, by address

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self._answer(scope, receive, send)
        except Refused as refused:
            body = json.dumps({"error": refused.reason}).encode()
            await send({"type": "http.response.start", "status": refused.status,
                        "headers": [(b"content-type", b"application/json"), (b"connection", b"close")]})
            await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        self._check_names(scope["headers"])
        if not is_open(scope["method"], scope["path"]):
            raise Refused(404, "not found")
        # without Origin no other website gets leave to read; the first page is read here, so not compressed
        is_page = scope["path"] == "/"
        left_out = {b"origin", *([b"accept-encoding"] if is_page else [])}
        scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name not in left_out]}
        if scope["method"] == "POST":
            await self._act(scope, receive, send)
        else:  # what is in the address of the page is for the browser alone
            await self.app({**scope, "query_string": b""} if is_page else scope, receive, _Guarded(send, is_page))

    def _check_names(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Refuse requests that a page of another website makes a browser send."""
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1:
            raise Refused(400, "exactly one Host header is needed")
        forwarded = [value for name, value in headers if name == b"x-forwarded-host"]
        for value in (*hosts, *forwarded):
            if not self._is_ours(value.decode("latin-1")):
                raise Refused(403, "the demo does not answer under this name; start it with --names NAME to allow it")
        for name, value in headers:
            if name == b"origin" and not self._is_from(value.decode("latin-1"), hosts[0].decode("latin-1")):
                raise Refused(403, "the demo does not answer pages of other websites; start it with --names NAME to "
                                   "allow those of NAME")

    def _is_ours(self, name: str) -> bool:
        try:
            host = urlsplit(name if "://" in name else f"//{name}").hostname or ""
        except ValueError:
            return False
        return host in self._names or bool(re.fullmatch(r"[\d.]+|[\da-f:.]*:[\da-f:.]*", host))

    def _is_from(self, origin: str, host: str) -> bool:
        """Whether a page of this origin came from here, as ``host``, or from a web server in front."""
        try:
            page, here = urlsplit(origin), urlsplit(f"//{host}")
            usual = 443 if page.scheme == "https" else 80  # which neither need name
            same = (page.hostname, page.port or usual) == (here.hostname, here.port or usual)
        except ValueError:
            return False
        return same or page.hostname in self._fronts

    async def _act(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer a request for something to be done, when it is its turn."""
        kinds = [value for name, value in scope["headers"] if name == b"content-type"]
        # which a page of another website cannot send without asking first
        if [kind.partition(b";")[0].strip().lower() for kind in kinds] != [b"application/json"]:
            raise Refused(415, "not JSON")
        address = (scope["client"] or ("",))[0]
        with self._holding(address) as hold:
            body = await self._body(scope, receive, hold)
            if body.count(b",") > MOST_COMMAS:
                raise Refused(413, "too many values")
            try:
                visitor = json.loads(body)["session_hash"]
            except (ValueError, KeyError, TypeError, RecursionError):
                visitor = None
            if not isinstance(visitor, str) or not re.fullmatch(r"\w{1,40}", visitor):
                raise Refused(400, "not a request of this page")
            gone = asyncio.ensure_future(receive())  # comes when the client goes
            begun = False

            async def work() -> None:
                nonlocal begun
                async with self._turns.of(address, visitor):
                    begun = True
                    messages = deque([{"type": "http.request", "body": body}])

                    async def once() -> _Message:
                        return messages.popleft() if messages else await asyncio.shield(gone)

                    await self.app(scope, once, _Guarded(send, False))

            working = asyncio.ensure_future(work())
            try:
                await asyncio.wait({gone, working}, return_when=asyncio.FIRST_COMPLETED)
                if not begun:
                    working.cancel()  # nobody waits for it any more; what is begun is finished
                with contextlib.suppress(asyncio.CancelledError):
                    await working
            finally:
                gone.cancel()

    @contextlib.contextmanager
    def _holding(self, address: str) -> Iterator[Callable[[int], None]]:
        """Yield a function that counts bytes of a body as held, until the block ends."""
        come = counted = 0

        def hold(length: int) -> None:
            nonlocal come, counted
            come += length
            if come > SMALL:
                more = come - counted
                if self._held.total() + more > MOST_BODIES or self._held[address] + more > MOST_BODIES // 2:
                    raise Refused(503, "too many uploads at once; try again in a moment")
                counted = come
                self._held[address] += more

        try:
            yield hold
        finally:
            self._held[address] -= counted
            self._held += Counter()  # forgets those that hold nothing

    async def _body(self, scope: _Message, receive: _Receive, hold: Callable[[int], None]) -> bytes:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MOST_BODY:
            raise Refused(413, "too large")

        async def read() -> bytes:
            body, more = bytearray(), True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused(400, "broken off")
                hold(len(message.get("body", b"")))
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MOST_BODY:  # sent in pieces, without a length
                    raise Refused(413, "too large")
            return bytes(body)

        try:
            return await asyncio.wait_for(read(), BODY_SECONDS)
        except asyncio.TimeoutError as error:
            raise Refused(408, "too slow") from error


class _Guarded:
    """``send`` for answers to browsers: with headers that say what a page may do. Of the page itself, the scripts that
    are in it are allowed one by one."""

    def __init__(self, send: _Send, is_page: bool):
        self._send, self._is_page, self._start, self._body = send, is_page, None, bytearray()

    async def __call__(self, message: _Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            if not self._is_page:
                await self._begin([])
        elif not self._is_page:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._begin(re.findall(rb"<script[^>]*>(.*?)</script>", self._body, re.DOTALL))
                await self._send({"type": "http.response.body", "body": bytes(self._body)})

    async def _begin(self, scripts: list[bytes]) -> None:
        sums = [f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts]
        policy = ("default-src 'self'; " + " ".join(["script-src 'self' 'unsafe-eval'", *sums]) + "; "
                  "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
                  "object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'")
        headers = [*self._start["headers"], (b"content-security-policy", policy.encode()),
                   (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"),
                   (b"cross-origin-resource-policy", b"same-origin")]
        await self._send({**self._start, "headers": headers})
