"""The standard protocols, each a translation onto the one answer; a module each, imported at its first call."""
