"""Formats in which an architecture leaves."""
