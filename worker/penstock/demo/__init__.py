"""``penstock demo``: a real corpus indexed and searched with the models that come with the package."""
