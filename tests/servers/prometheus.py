"""Prometheus itself, from Debian's package: found on the machine, or fetched by apt into `.tools`, without root."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.servers.missing_programs import ProgramMissing
from tests.servers.platform import ROOT, wait_until
from tests.servers.ports import free_port

FOLDER = ROOT / ".tools" / "prometheus"
FETCH_WITHIN_S = 120
"""For one attempt; there are two."""


class PrometheusMissing(ProgramMissing):
    """Neither installed nor to be had by apt; the text says why and what to do."""


@dataclass(frozen=True)
class PrometheusPackage:
    """The two programs of the package."""

    server: Path
    promtool: Path


def prometheus_package() -> PrometheusPackage:
    """The installed package, else the one in `.tools/prometheus`, fetched once. Raises PrometheusMissing."""
    server, promtool = (shutil.which(name) for name in ("prometheus", "promtool"))
    if server and promtool:
        return PrometheusPackage(Path(server), Path(promtool))
    found = PrometheusPackage(FOLDER / "usr" / "bin" / "prometheus", FOLDER / "usr" / "bin" / "promtool")
    FOLDER.parent.mkdir(exist_ok=True)
    with FOLDER.with_suffix(".lock").open("w") as lock:  # tests run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.promtool.exists():
            _fetch()
    return found


def _fetch() -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise PrometheusMissing("there is no prometheus and no apt to fetch it by: install Prometheus 2.42 or later")
    scratch = FOLDER.with_name("prometheus.new")
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "lists" / "partial").mkdir(parents=True)
    # A machine without package lists, or without the right to write them, gets lists of its own in the folder.
    lists = ["-o", f"Dir::State::lists={scratch / 'lists'}", "-o", f"Dir::Cache={scratch}"]
    lists += ["-o", "APT::Sandbox::User=", "-o", f"Dir::Cache::archives={scratch}"]
    attempts = ([["download", "prometheus"]], [[*lists, "update"], [*lists, "download", "prometheus"]])
    said = ""
    for commands in attempts:
        ends = time.monotonic() + FETCH_WITHIN_S
        try:
            for words in commands:
                within_s = max(ends - time.monotonic(), 1.0)
                done = subprocess.run(
                    ["apt-get", "-qq", *words], cwd=scratch, capture_output=True, text=True, timeout=within_s
                )
                said = done.stderr
        except subprocess.TimeoutExpired:
            said = f"no answer within {FETCH_WITHIN_S} s"
            for half in scratch.glob("prometheus_*.deb"):
                half.unlink()
            continue
        if packages := sorted(scratch.glob("prometheus_*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(packages[0]), str(scratch)], check=True, timeout=FETCH_WITHIN_S)
            shutil.rmtree(FOLDER, ignore_errors=True)
            scratch.rename(FOLDER)
            return
    shutil.rmtree(scratch, ignore_errors=True)
    raise PrometheusMissing(f"apt-get cannot fetch the package prometheus ({said.strip()[-200:]}); install it")


@dataclass(frozen=True)
class Prometheus:
    """A running server, and the folder in which it looks for what to scrape."""

    url: str
    folder: Path

    def scrape(self, job: str, ports: Sequence[int]) -> None:
        """Scrape these ports of this machine for a job from now on, and no others: what discovery by name does."""
        scratch = self.folder / f"{job}.new"
        scratch.write_text(json.dumps([{"targets": [f"127.0.0.1:{port}" for port in ports]}]))
        scratch.rename(self.folder / f"{job}.json")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query now. Fails the test where Prometheus refuses the expression."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=30, trust_env=False).json()
        assert answer["status"] == "success", (expression, answer)
        result = answer["data"]["result"]
        return result if answer["data"]["resultType"] == "vector" else [{"metric": {}, "value": result}]

    def get(self, path: str) -> Any:
        """The data of an answer of its HTTP interface."""
        answer = httpx.get(self.url + path, timeout=30, trust_env=False).json()
        assert answer["status"] == "success", answer
        return answer["data"]


@contextmanager
def running_prometheus(
    package: PrometheusPackage, folder: Path, jobs: Mapping[str, int], rules: Sequence[Path], every_s: int = 1
) -> Iterator[Prometheus]:
    """A server that scrapes each job's port on this machine every `every_s` seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    scrapes = "\n".join(
        f"  - {{job_name: {job}, file_sd_configs: [{{files: ['{folder / job}.json'], refresh_interval: 1s}}]}}"
        for job in jobs
    )
    times = f"{{scrape_interval: {every_s}s, scrape_timeout: {every_s}s, evaluation_interval: {every_s}s}}"
    files = ", ".join(f"'{path}'" for path in rules)
    (folder / "prometheus.yml").write_text(f"global: {times}\nrule_files: [{files}]\nscrape_configs:\n{scrapes}\n")
    port = free_port()
    running = Prometheus(f"http://127.0.0.1:{port}", folder)
    for job, scraped in jobs.items():
        running.scrape(job, [scraped])
    command = [str(package.server), f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: _is_ready(running, process), "Prometheus is ready")
        yield running
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(running: Prometheus, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "Prometheus ended: see prometheus.log in its folder"
    try:
        return httpx.get(f"{running.url}/-/ready", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
