"""A client of the API server: JSON in, JSON out."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

Object = dict[str, Any]
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
SECONDS = 30.0


class Api:
    """What the tests and the nodes ask of the API server; any number of threads may."""

    def __init__(self, server: str, token: str) -> None:
        """Its certificate is its own, so it is not verified."""
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=20)
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx.Client(base_url=server, headers=headers, verify=False, timeout=SECONDS, limits=limits)  # noqa: S501

    def get(self, path: str, **params: object) -> Object:
        """One object, or a list of them; raises httpx.HTTPStatusError."""
        return self._answer(self._client.get(path, params={key: str(value) for key, value in params.items()}))

    def find(self, path: str) -> Object | None:
        """The object, if there is one."""
        answer = self._client.get(path)
        return None if answer.status_code == httpx.codes.NOT_FOUND else self._answer(answer)

    def post(self, path: str, body: Mapping[str, Any]) -> Object:
        """Make one; one that is there already is left as it is."""
        answer = self._client.post(path, json=body)
        return {} if answer.status_code == httpx.codes.CONFLICT else self._answer(answer)

    def put(self, path: str, body: Mapping[str, Any]) -> Object:
        """Set one as a whole."""
        return self._answer(self._client.put(path, json=body))

    def patch(self, path: str, body: Mapping[str, Any], kind: str = MERGE) -> Object:
        """Change one; an object that is gone is no error."""
        answer = self._client.patch(path, content=json.dumps(body), headers={"Content-Type": kind})
        return {} if answer.status_code == httpx.codes.NOT_FOUND else self._answer(answer)

    def delete(self, path: str, body: Mapping[str, Any] | None = None) -> None:
        """Remove one, if it is there."""
        answer = self._client.request("DELETE", path, json=body or {})
        if answer.status_code not in (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT):
            self._answer(answer)

    def healthy(self) -> bool:
        """Whether it answers, and that it is ready."""
        try:
            return self._client.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def changes(self, path: str, **params: str) -> Iterator[tuple[str, Object]]:
        """All objects of a kind as ADDED, then every change of them, until the connection ends."""
        listed = self.get(path, **params)
        for item in listed["items"]:
            yield "ADDED", item
        params |= {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
        with self._client.stream("GET", path, params=params, timeout=httpx.Timeout(SECONDS, read=None)) as answer:
            for line in answer.iter_lines():
                change = json.loads(line)
                yield change["type"], change["object"]

    def close(self) -> None:
        """End all connections."""
        self._client.close()

    @staticmethod
    def _answer(answer: httpx.Response) -> Object:
        if answer.is_error:
            raise httpx.HTTPStatusError(answer.text[:1000], request=answer.request, response=answer)
        return dict(answer.json())
