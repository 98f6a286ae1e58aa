"""The OpenAPI document, generated from the manifest; a module for each way in, imported when somebody asks."""
