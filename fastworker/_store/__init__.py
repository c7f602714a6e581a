"""Stores: where the control plane keeps what it has promised."""
