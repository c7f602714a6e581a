"""Who may do what: the roles that a peer can prove, and what each of them may ask.

How a role is proved is the transport's business: by a token, or by the name in
a certificate. It tells the machines which roles each pipe has proved, and the
tables here say what that is good for. ``docs/security.md`` shows them.
"""

from __future__ import annotations

import enum
import itertools
from typing import Final, TypeAlias

from fastworker._core._messages import Kind, Role


class PeerRole(enum.Enum):
    """What a peer can prove to be.

    CLIENT: submits tasks, and asks about those whose ids it knows. WORKER: runs
    tasks. OPERATOR: a client that also sees and changes what is not its own.
    """

    CLIENT = "client"
    WORKER = "worker"
    OPERATOR = "operator"


# The roles that whoever is behind a pipe has proved.
Authority: TypeAlias = frozenset[PeerRole]

# Where nobody has to prove anything, everybody may do everything.
EVERYTHING: Final[Authority] = frozenset(PeerRole)
NOTHING: Final[Authority] = frozenset()

_CLIENT_KINDS: Final = frozenset(
    {
        Kind.SUBMIT,
        Kind.POLL,
        Kind.CANCEL,  # of tasks of its own: see ``may_touch_others``
        Kind.QUERY,
        Kind.WATCH,
        Kind.CREDIT,
        Kind.FUNCTIONS,
        Kind.BYE,
    }
)

ALLOWED_KINDS: Final[dict[PeerRole, frozenset[Kind]]] = {
    PeerRole.CLIENT: _CLIENT_KINDS,
    PeerRole.WORKER: frozenset({Kind.REPORT, Kind.LEASE, Kind.BYE}),
    PeerRole.OPERATOR: _CLIENT_KINDS
    | {
        Kind.CALLBACKS,
        Kind.TASKS,
        Kind.TASK,
        Kind.TASK_ACTION,
        Kind.OVERVIEW,
        Kind.WORKERS,
        Kind.METRICS,
        Kind.DRAIN,
        Kind.EVENTS,
    },
}

# What a session is opened as, and who may open such a one.
OPENERS: Final[dict[Role, Authority]] = {
    Role.CLIENT: frozenset({PeerRole.CLIENT, PeerRole.OPERATOR}),
    Role.SUBWORKER: frozenset({PeerRole.WORKER}),
}


def may_open(authority: Authority, role: Role) -> bool:
    """Whether this is enough to open a session of this role."""
    return not OPENERS[role].isdisjoint(authority)


def allowed_kinds(authority: Authority, role: Role) -> frozenset[Kind]:
    """What may be asked in a session of this role by whoever has proved so much."""
    return _ALLOWED[authority, role]


def may_touch_others(authority: Authority) -> bool:
    """Whether tasks that somebody else has submitted may be cancelled."""
    return PeerRole.OPERATOR in authority


def _combine(authority: Authority, role: Role) -> frozenset[Kind]:
    counted = authority & OPENERS[role]
    return frozenset(kind for each in counted for kind in ALLOWED_KINDS[each])


# Looked up for every request, so made once for each of the few cases.
_ALLOWED: Final = {
    (frozenset(some), role): _combine(frozenset(some), role)
    for count in range(len(PeerRole) + 1)
    for some in itertools.combinations(PeerRole, count)
    for role in Role
}
