"""Apache Kafka's jars as they lie on this machine after set-up."""

import shutil
from pathlib import Path

import pytest

from runner.kafka_jars import LIBS, JarError, check_jars, ensure_jars, read_sums


def test_jars_in_place_are_not_fetched_again() -> None:
    assert ensure_jars() is False


def test_a_jar_changed_on_disk_is_named(tmp_path: Path) -> None:
    libs = tmp_path / "libs"
    shutil.copytree(LIBS, libs)
    check_jars(libs, read_sums())
    with (libs / "zstd-jni-1.5.6-10.jar").open("ab") as jar:
        jar.write(b"x")
    with pytest.raises(JarError, match=r"zstd-jni-1\.5\.6-10\.jar does not have the SHA-256"):
        check_jars(libs, read_sums())
