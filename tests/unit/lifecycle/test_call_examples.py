"""Where a service is called, by domain and without one."""

import pytest

from services.lifecycle.call_examples import endpoint_url


@pytest.mark.parametrize(
    ("account", "gateway", "domain", "url"),
    [
        ("u-8105f7322477", "http://127.0.0.1:8000", None, "http://127.0.0.1:8000/v1"),
        ("public", "http://127.0.0.1:8000/", None, "http://127.0.0.1:8000/v1"),
        ("u-8105f7322477", "https://gateway", "example.com", "https://sh-02.example.com/v1"),
        ("public", "https://gateway", "example.com", "https://chat.example.com/v1"),
        ("public", "https://gateway:8443", "example.com", "https://chat.example.com:8443/v1"),
    ],
)
def test_the_host_decides_the_endpoint(account: str, gateway: str, domain: str | None, url: str) -> None:
    assert endpoint_url(account=account, region="sh-02", gateway_url=gateway, domain=domain) == url
