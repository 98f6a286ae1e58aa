"""Dashboards and alerts: makes their files, and applies them to a project."""
