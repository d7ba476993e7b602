"""Where bundles are kept: registries, object stores, a hub, folders. Each library has one importer."""
