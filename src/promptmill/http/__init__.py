"""The one door to HTTP: what providers that speak HTTP share."""

from promptmill.http.client import HttpClient, HttpResponse, HttpSettings

__all__ = ["HttpClient", "HttpResponse", "HttpSettings"]
