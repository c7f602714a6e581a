"""Tests of the stores: one suite for all of them, and the faults of disks."""
