"""Sets a Google Cloud project up for Rookery; running it again changes nothing."""
