"""Bodies are unpacked whole and within their bound."""

import gzip
import zlib

import lz4.frame
import pytest
import zstandard

from services.clickhouse.bodies import form_fields, unpacked
from services.clickhouse.errors import QueryError

TEXT = b"row\n" * 10_000
ENOUGH = 1_000_000


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("", TEXT),
        ("lz4", lz4.frame.compress(TEXT)),
        ("lz4", b"".join(lz4.frame.compress(TEXT[at : at + 4_000]) for at in range(0, len(TEXT), 4_000))),
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("gzip", gzip.compress(TEXT[:8], mtime=0) + gzip.compress(TEXT[8:], mtime=0)),
        ("deflate", zlib.compress(TEXT)),
        ("zstd", zstandard.compress(TEXT)),
        ("zstd", zstandard.compress(TEXT[:8]) + zstandard.compress(TEXT[8:])),
    ],
)
def test_every_frame_is_unpacked(encoding: str, packed: bytes) -> None:
    assert unpacked(packed, encoding, ENOUGH) == TEXT


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("lz4", lz4.frame.compress(TEXT)), ("gzip", gzip.compress(TEXT, mtime=0)), ("zstd", zstandard.compress(TEXT))],
)
def test_a_small_body_cannot_become_a_large_one(encoding: str, packed: bytes) -> None:
    with pytest.raises(QueryError) as refused:
        unpacked(packed, encoding, len(TEXT) - 1)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("lz4", lz4.frame.compress(TEXT)[:-9]),
        ("lz4", lz4.frame.compress(TEXT) + b"garbage"),
        ("gzip", gzip.compress(TEXT, mtime=0)[:-9]),
        ("deflate", b"garbage"),
        ("br", TEXT),
    ],
)
def test_a_broken_body_is_refused_whole(encoding: str, packed: bytes) -> None:
    with pytest.raises(QueryError) as refused:
        unpacked(packed, encoding, ENOUGH)
    assert refused.value.status == 400


def test_a_form_gives_its_fields() -> None:
    form = (
        b'--b1\r\nContent-Type: text/plain\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT 1\r\n'
        b"--b1\r\nContent-Disposition: form-data; name=\"param_ids\"\r\n\r\n['a\r\nb']\r\n--b1--\r\n"
    )
    assert form_fields(form, "multipart/form-data; boundary=b1") == {"query": "SELECT 1", "param_ids": "['a\r\nb']"}


@pytest.mark.parametrize(
    ("form", "content_type"),
    [
        (b"--b1\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n", "multipart/form-data; boundary=b1"),
        (b"--b1\r\nX: y\r\n\r\n1\r\n--b1--", "multipart/form-data; boundary=b1"),
        (b"--b1\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--b1--", "multipart/form-data"),
        (
            b'--b1\r\nContent-Disposition: form-data; name=a; filename="f"\r\n\r\n1\r\n--b1--',
            "multipart/form-data; boundary=b1",
        ),
    ],
)
def test_a_broken_form_is_refused(form: bytes, content_type: str) -> None:
    with pytest.raises(QueryError):
        form_fields(form, content_type)
