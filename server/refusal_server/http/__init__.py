"""HTTP around the routes: protocol, middlewares, JSON bodies, health."""
