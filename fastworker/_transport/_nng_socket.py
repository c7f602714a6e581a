"""The one place where NNG sockets are made, and all that is used of pynng.

pynng has no types and its aio calls leak or lose messages when they are
cancelled (H2-H5, H10, H12), so this module uses none of them: raw sockets,
non-blocking calls, and descriptors that the event loop polls. What it offers
is small and typed; above it nobody knows pynng.
"""

from __future__ import annotations

import ctypes
import enum
import ipaddress
import os
import socket
import sys
import threading
import weakref
from collections import deque
from typing import Any, NamedTuple

import pynng

from fastworker._errors import (
    AddressInUse,
    ConfigurationError,
    ForkedClient,
    LinkClosed,
    LinkError,
)
from fastworker._transport._abc import MAX_FRAME_BYTES
from fastworker._transport._nng_tls import client_config, failed_handshakes, server_config
from fastworker._transport._tls import TlsContext

# One flooding peer fills this queue, so it is what such a peer can make us hold.
RECEIVE_QUEUE_FRAMES = 32
# Nothing is wanted of a callback's listener. What it sends all the same may take
# this much of our memory, for each listener.
PAIR_MAX_FRAME_BYTES = 4096
PAIR_RECEIVE_QUEUE_FRAMES = 1
# A raw REP socket's own thread empties this queue into the pipes' queues of 64.
REPLY_QUEUE_FRAMES = 128
# NNG sleeps a random part of the current back-off, which doubles from the first
# to the second number of milliseconds: a pipe that broke is back within 0.1 s,
# and a control plane that was away for an hour is found within a second.
RECONNECT_MIN_MS = 100
RECONNECT_MAX_MS = 1000

_lib: Any = pynng.lib
_ffi: Any = pynng.ffi
_NONBLOCK: int = _lib.NNG_FLAG_NONBLOCK
_EAGAIN: int = _lib.NNG_EAGAIN
_ECLOSED: int = _lib.NNG_ECLOSED


# Which process has opened sockets, 0 for none so far.
_owner_pid = 0


def check_process() -> None:
    """Refuse what NNG would answer by aborting the process (H17).

    Raises:
      ForkedClient: this is a fork of a process that had opened sockets.
    """
    pid = os.getpid()
    if _owner_pid not in (0, pid):
        raise ForkedClient(_owner_pid, pid)


def return_large_blocks() -> None:
    """Have the C library give the memory of large messages back once they are freed.

    glibc learns from the first large block that such blocks come often, keeps
    them from then on, and does so for each of NNG's threads apart: a few
    senders of 16 MiB messages made a control plane keep 200 MB for ever.
    """
    try:
        ctypes.CDLL(None).mallopt(-3, 1024 * 1024)  # M_MMAP_THRESHOLD
    except (AttributeError, OSError, TypeError):
        pass  # another C library, with other habits


class Arrived(NamedTuple):
    """One frame, the pipe it came by, and NNG's header for the way back."""

    pipe: int
    header: bytes
    frame: bytes


class News(enum.Enum):
    """What NNG's threads report about a pipe."""

    ADDED = enum.auto()  # before the first frame can arrive on it
    STARTED = enum.auto()  # it takes frames now; may come after REMOVED (H16)
    REMOVED = enum.auto()


class WakeUp:
    """Lets any thread make a descriptor readable for the event loop."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        # An NNG thread must not write to a descriptor that has just been
        # closed here and opened again as something else.
        self._lock = threading.Lock()
        self._is_open = True

    @property
    def fd(self) -> int:
        return self._reader.fileno()

    def ring(self) -> None:
        """Make the descriptor readable; callable from every thread."""
        with self._lock:
            if self._is_open:
                try:
                    self._writer.send(b"\0")
                except BlockingIOError:
                    pass  # unread bytes are waiting, so it is readable already

    def clear(self) -> None:
        """Make the descriptor unreadable until the next ring."""
        try:
            while len(self._reader.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        with self._lock:
            self._is_open = False
        self._reader.close()
        self._writer.close()


_open_sockets: weakref.WeakSet[RawSocket] = weakref.WeakSet()


def _abandon_all() -> None:
    for raw in list(_open_sockets):
        raw.abandon()
    _open_sockets.clear()


os.register_at_fork(after_in_child=_abandon_all)


class RawSocket:
    """A raw REQ or REP socket, or a Pair0 socket, that never blocks.

    Exactly one of :meth:`dial` and :meth:`listen` is called, once. Nothing
    here may be used by two threads, except by NNG's own threads, which only
    append to :attr:`news` and ring the :attr:`bell` (H15: they hold locks of
    NNG and must neither run our code nor wait for a loop).
    """

    def __init__(
        self,
        opener: Any,
        *,
        send_queue_frames: int,
        receive_queue_frames: int = RECEIVE_QUEUE_FRAMES,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        tls: Any = None,
    ) -> None:
        global _owner_pid
        check_process()
        _owner_pid = os.getpid()
        self.news: deque[tuple[News, int]] = deque()
        self.bell = WakeUp()
        try:
            # recv_max_size is not a tuning knob: by default it is unlimited,
            # and then sixteen hostile bytes abort the process (H1). It must be
            # set before the first pipe exists, hence in the constructor.
            self._socket: Any = pynng.Socket(
                opener=opener,
                recv_max_size=max_frame_bytes,
                recv_buffer_size=receive_queue_frames,
                send_buffer_size=send_queue_frames,
                reconnect_time_min=RECONNECT_MIN_MS,
                reconnect_time_max=RECONNECT_MAX_MS,
                tls_config=tls,
            )
        except pynng.NNGException as exc:
            self.bell.close()
            raise LinkError(f"cannot open a network socket: {exc}") from exc
        self._is_open = True
        _open_sockets.add(self)
        # H19: else a peer whose machine vanished stays connected for ever.
        self._socket.tcp_keepalive = True
        # "pre" is the only callback that always precedes the first frame, and
        # unlike the others cannot come after the removal.
        self._socket.add_pre_pipe_connect_cb(lambda pipe: self._note(News.ADDED, pipe))
        self._socket.add_post_pipe_connect_cb(lambda pipe: self._note(News.STARTED, pipe))
        self._socket.add_post_pipe_remove_cb(lambda pipe: self._note(News.REMOVED, pipe))
        self._handle: Any = self._socket.socket
        self._listener: Any = None
        self._slot: Any = _ffi.new("nng_msg **")
        # NNG makes these on first use and closes them with the socket.
        self.recv_fd = int(self._socket.recv_fd)
        self.send_fd = int(self._socket.send_fd)

    @classmethod
    def open_req(cls, tls: TlsContext | None = None, host: str = "") -> RawSocket:
        """Make a dialing socket; it queues nothing while nobody is there.

        Args:
          tls: if it is to speak TLS.
          host: that is dialed then, without brackets.
        """
        config = None if tls is None else client_config(tls, host)
        return cls(_lib.nng_req0_open_raw, send_queue_frames=0, tls=config)

    @classmethod
    def open_rep(cls, tls: TlsContext | None = None) -> RawSocket:
        """Make a listening socket."""
        return_large_blocks()
        config = None if tls is None else server_config(tls)
        return cls(_lib.nng_rep0_open_raw, send_queue_frames=REPLY_QUEUE_FRAMES, tls=config)

    @classmethod
    def open_pair(cls) -> RawSocket:
        """Make a dialing socket for a plain Pair0 listener; it queues nothing either."""
        return cls(
            _lib.nng_pair0_open,
            send_queue_frames=0,
            receive_queue_frames=PAIR_RECEIVE_QUEUE_FRAMES,
            max_frame_bytes=PAIR_MAX_FRAME_BYTES,
        )

    def dial(self, address: str) -> None:
        """Start to dial in the background, for ever; errors are not reported."""
        try:
            # H13: a blocking dial freezes the loop for as long as a peer likes.
            self._socket.dial(address, block=False)
        except pynng.NNGException as exc:
            raise ConfigurationError(f"cannot dial {address!r}: {exc}") from exc

    def listen(self, address: str) -> int:
        """Listen, and return the port, which NNG chose if it was given as 0."""
        try:
            listener = self._socket.listen(address)
            self._listener = listener.listener
            port = listener.local_address.port
        except pynng.AddressInUse as exc:
            raise AddressInUse(address) from exc
        except (
            pynng.AddressInvalid,
            pynng.PermissionDenied,
            pynng.InvalidOperation,
            pynng.NotSupported,
        ) as exc:
            raise ConfigurationError(
                f"cannot listen on {address!r}: {exc}; the host must be an address of this "
                f"machine, for example 'tcp://127.0.0.1:5555'"
            ) from exc
        except pynng.NNGException as exc:
            raise LinkError(f"cannot listen on {address}: {exc}") from exc
        return socket.ntohs(port)

    def send(self, header: bytes, frame: bytes) -> bool:
        """Hand one frame to NNG, or return False if it takes none now."""
        self._check_open()
        size = len(frame)
        status = _lib.nng_msg_alloc(self._slot, size)
        if status:
            raise _error(status)
        message = self._slot[0]
        _ffi.memmove(_lib.nng_msg_body(message), frame, size)
        status = _lib.nng_msg_header_append(message, header, len(header))
        if not status:
            status = _lib.nng_sendmsg(self._handle, message, _NONBLOCK)
            if not status:
                return True
        # A message that was not sent is still ours: 1 MiB each is soon noticed.
        _lib.nng_msg_free(message)
        if status == _EAGAIN:
            return False
        raise _error(status)

    def receive(self, max_frames: int, max_bytes: int) -> list[Arrived]:
        """Take what has arrived, in order, but no more than about the limits."""
        self._check_open()
        slot, handle = self._slot, self._handle
        arrived: list[Arrived] = []
        size = 0
        while len(arrived) < max_frames and size < max_bytes:
            status = _lib.nng_recvmsg(handle, slot, _NONBLOCK)
            if status:
                if arrived or status == _EAGAIN:
                    break  # an error will come again, these frames would not
                raise _error(status)
            message = slot[0]
            length = _lib.nng_msg_len(message)
            size += length
            arrived.append(
                Arrived(
                    _lib.nng_msg_get_pipe(message).id,
                    _ffi.buffer(_lib.nng_msg_header(message), _lib.nng_msg_header_len(message))[
                        :
                    ],
                    _ffi.buffer(_lib.nng_msg_body(message), length)[:],
                )
            )
            _lib.nng_msg_free(message)
        return arrived

    def remote_host(self, pipe: int) -> str:
        """Where the other end of a pipe is; empty if it is gone, or no TCP address."""
        return self.remote_place(pipe)[0]

    def remote_place(self, pipe: int) -> tuple[str, int]:
        """As :meth:`remote_host`, with the port."""
        address = _ffi.new("nng_sockaddr *")
        handle = _ffi.new("nng_pipe *", {"id": pipe})[0]
        if _lib.nng_pipe_get_addr(handle, b"remote-address", address):
            return "", 0
        if address.s_family == _lib.NNG_AF_INET:
            packed = int(address.s_in.sa_addr).to_bytes(4, sys.byteorder)
            return str(ipaddress.IPv4Address(packed)), socket.ntohs(address.s_in.sa_port)
        if address.s_family == _lib.NNG_AF_INET6:
            host = ipaddress.IPv6Address(bytes(address.s_in6.sa_addr))
            return str(host), socket.ntohs(address.s_in6.sa_port)
        return "", 0

    def failed_handshakes(self) -> int:
        """How many connections to this listener were refused, or refused us, in TLS."""
        return 0 if self._listener is None else failed_handshakes(self._listener)

    def close_pipe(self, pipe: int) -> None:
        """Close one pipe; its removal is reported. No error if it is gone."""
        self._check_open()
        _lib.nng_pipe_close(_ffi.new("nng_pipe *", {"id": pipe})[0])

    def forget_pipe(self, pipe: int) -> None:
        """Remove what pynng keeps of a pipe that was started after its removal.

        H16: pynng would keep it for ever. Its lock is not taken, because an
        NNG thread may hold it; removing a key is atomic without.
        """
        self._socket._pipes.pop(pipe, None)

    def close(self) -> None:
        """Close the socket and its descriptors, at once. Idempotent.

        Nobody may be waiting on the descriptors any more.
        """
        if not self._is_open:
            return
        self._is_open = False
        _open_sockets.discard(self)
        self._socket.close()
        # Else pynng closes it once more when its object is collected, and in a
        # fork of this process NNG would answer that by a panic (H17).
        del self._socket._socket
        self.bell.close()

    def abandon(self) -> None:
        """Forget the socket without a word to NNG, in a fork of its process.

        There NNG has no threads, and any call would panic or hang (H17), also
        the one that pynng makes when its object is collected.
        """
        self._is_open = False
        del self._socket._socket

    def _check_open(self) -> None:
        if not self._is_open:
            raise LinkClosed("this link has been closed, or belongs to another process")

    def _note(self, news: News, pipe: Any) -> None:
        self.news.append((news, pipe.id))
        self.bell.ring()


def _error(status: int) -> LinkError:
    """Map a status that is no success; the cause has NNG's words for it."""
    cause = pynng.exceptions.EXCEPTION_MAP.get(status, pynng.NNGException)(
        _ffi.string(_lib.nng_strerror(status)).decode(), status
    )
    error = (
        LinkClosed("this link has been closed")
        if status == _ECLOSED
        else LinkError(f"the network library failed: {cause}")
    )
    error.__cause__ = cause
    return error
