"""How bundles are made. Needs the extra ``export``; workers never import this."""
