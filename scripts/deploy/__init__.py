"""Brings an image and a bundle to Cloud Run as a revision without traffic."""
