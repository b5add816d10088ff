"""The one door to HTTP: what providers that speak HTTP share."""

from promptmill.http._opening import open_client
from promptmill.http._ratelimits import limits_of
from promptmill.http._replies import failure_of, retry_after
from promptmill.http.client import HttpClient, HttpResponse, HttpSettings

__all__ = ["HttpClient", "HttpResponse", "HttpSettings", "failure_of", "limits_of", "open_client", "retry_after"]
