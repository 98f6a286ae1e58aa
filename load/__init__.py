"""What measures, over HTTP only."""
