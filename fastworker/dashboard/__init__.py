"""The dashboard: a client of the control plane that serves pages and a live feed."""
