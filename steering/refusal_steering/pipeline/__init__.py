"""A build: from requests and a model to the bundle of every strategy, and a report on them."""
