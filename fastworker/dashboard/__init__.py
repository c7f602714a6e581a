"""The dashboard: a page, a REST API and a live feed for operators, over HTTP.

It is a client of the control plane, and nothing else: whatever it shows or does
goes over the wire, so it cannot get into the way of tasks. Needs
``pip install 'fastworker[dashboard]'``.
"""

from __future__ import annotations

from fastworker.dashboard._dashboard import Dashboard

__all__ = ["Dashboard"]
