"""Set-up on a fresh machine: what it says when it fails, what it believes is done, whose packages it takes."""

import sys
from pathlib import Path

import pytest

from runner import setup
from runner.kafka_jars import JarError, check_jars, read_sums
from runner.pip_settings import settings_in
from runner.setup_steps import SetupError, advice_for, fingerprint, is_current, reason_in, run, write_stamp


def test_the_root_of_a_chain_of_causes_is_the_reason() -> None:
    output = (
        "error: Failed to fetch: `https://x/y`\n  Caused by: Request failed\n  Caused by: Connection refused (os 111)"
    )
    assert reason_in(output) == "Connection refused (os 111)."
    assert "network" in advice_for(output)


def test_the_first_error_of_pip_is_the_reason() -> None:
    output = "WARNING: retrying\nERROR: Could not find a version of uv\nERROR: No matching distribution found for uv\n"
    assert reason_in(output) == "ERROR: Could not find a version of uv."
    assert "pip is configured" in advice_for(output)


def test_a_command_without_words_still_has_a_reason() -> None:
    assert reason_in("\n \n") == "it failed without a message."


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("error: No space left on device (os error 28)", "disk"),
        ("error: Hash mismatch for `litellm==1.109.1`", "lock pins"),
        ("kafka: zstd-jni.jar does not have the SHA-256 that is pinned", "Maven"),
        ("error: something else", "make clean"),
    ],
)
def test_what_to_do_follows_from_what_happened(output: str, advice: str) -> None:
    assert advice in advice_for(output)


def test_a_failed_command_is_one_line_with_its_reason(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = "import sys; print('noise'); print('error: the disk is gone', file=sys.stderr); sys.exit(3)"
    with pytest.raises(SetupError) as failure:
        run("a test of set-up", [sys.executable, "-c", script], log_file=tmp_path / "setup.log")
    assert str(failure.value).startswith("a test of set-up: error: the disk is gone. ")
    assert "\n" not in str(failure.value)
    assert "a test of set-up ... failed after" in capfd.readouterr().out
    assert "noise" in (tmp_path / "setup.log").read_text()


def test_a_step_is_done_only_for_the_same_inputs(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("one")
    stamp = tmp_path / "environment" / ".stamps" / "lock"
    assert not is_current(stamp, fingerprint(lock))
    write_stamp(stamp, fingerprint(lock))
    assert is_current(stamp, fingerprint(lock))
    lock.write_text("two")
    assert not is_current(stamp, fingerprint(lock))


def test_pip_settings_of_a_later_section_win() -> None:
    listing = (
        ":env:.index-url='https://environment/simple'\n"
        "freeze.timeout='10'\n"
        "global.cert='/etc/certificates.pem'\n"
        "global.find-links='/one\\n/two'\n"
        "global.index-url='https://global/simple'\n"
        "install.index-url='https://install/simple'\n"
    )
    assert settings_in(listing) == {
        "cert": "/etc/certificates.pem",
        "find-links": "/one /two",
        "index-url": "https://environment/simple",
    }


def test_another_python_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup.OLDEST <= sys.version_info[:2] <= setup.NEWEST
    setup.check_machine()
    assert setup.main(["nonsense"]) == setup.EXIT_USAGE
    assert "platform|dev" in capsys.readouterr().err


def jars(folder: Path, **contents: str) -> Path:
    folder.mkdir()
    for name, text in contents.items():
        (folder / f"{name}.jar").write_text(text)
    return folder


SUM_OF_A = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


def test_the_pinned_jars_pass(tmp_path: Path) -> None:
    check_jars(jars(tmp_path / "libs", kafka="a"), {"kafka.jar": SUM_OF_A})


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        ({"kafka": "b"}, "kafka.jar does not have the SHA-256"),
        ({}, "kafka.jar is missing"),
        ({"kafka": "a", "extra": "x"}, "extra.jar is in"),
    ],
)
def test_a_jar_that_is_not_the_pinned_one_is_named(tmp_path: Path, contents: dict[str, str], complaint: str) -> None:
    with pytest.raises(JarError, match=complaint):
        check_jars(jars(tmp_path / "libs", **contents), {"kafka.jar": SUM_OF_A})


def test_every_jar_of_kafka_is_pinned() -> None:
    sums = read_sums()
    assert len(sums) == 46
    assert {"kafka_2.13-4.3.1.jar", "slf4j-simple-1.7.36.jar"} <= sums.keys()
    assert all(len(digest) == 64 for digest in sums.values())
