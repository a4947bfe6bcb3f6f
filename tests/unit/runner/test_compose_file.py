"""docker-compose.yml has the processes, ports, needs and times of the table, and every service keeps its promises."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic_settings import BaseSettings

from adapters import secret_files
from adapters.clickhouse.client import ADMIN, BILLING
from adapters.settings import PlatformSettings
from runner.container_place import NODE_FOLDER_SETTING
from runner.container_secrets import BILLING_USER_SETTING, OWNERS_ONLY, READABLE, handed_to_readers
from runner.kafka import KafkaNode, server_properties
from runner.processes import PROCESSES, Process
from services.accounts.settings import AccountsSettings

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docker-compose.yml").read_text()
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = [process for process in PROCESSES if process.name not in ("kafka", "clickhouse")]
BY_NAME = {process.name: process for process in PROCESSES}
CALLED_FROM_OUTSIDE = {"gateway", "control"}

NOT_THE_TABLES = {"secrets", "node-gpu", "prometheus", "grafana"}
PUBLIC_IMAGES = {"kafka", "clickhouse", "prometheus", "grafana"}
MODELS_RUN_IN = {"node", "node-gpu"}
HOME = Path("/var/lib/hydra")
FILES_OF_THE_OPERATORS = {
    "HYDRA_ACCOUNTS_DATABASE_PASSWORD_FILE",
    "HYDRA_LIFECYCLE_DATABASE_PASSWORD_FILE",
    "HYDRA_GATEWAY_TLS_CERTIFICATE",
    "HYDRA_GATEWAY_TLS_KEY",
    "HYDRA_LIFECYCLE_GATEWAY_TLS_CERTIFICATE",
    "HYDRA_WORKER_SGLANG_PYTHON",
    "HYDRA_WORKER_CPU_MODEL",
}
"""Read from where they lie; nothing that is to be kept is written there."""
FOLDERS_OF_TESTS = {"HYDRA_CLOCK_OFFSETS", "HYDRA_WORKER_SIMULATED_LEDGERS"}
NEEDS_BEYOND_THE_TABLE = {
    # Stopped before these, which serve it to its last request.
    "gateway": {"kafka": "service_started", "node": "service_started"},
}
CONDITIONS = {"exit": "service_completed_successfully", "http": "service_healthy", "kafka": "service_healthy"}


def service_of(process: Process) -> dict[str, Any]:
    """The table's node agent is the service `node`, for there are many."""
    return SERVICES["node" if process.name == "worker" else process.name]


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)(s|m)", text)
    assert found, text
    return int(found[1]) * {"s": 1, "m": 60}[found[2]]


def test_every_process_is_a_service_and_no_other_is() -> None:
    names = {"node" if process.name == "worker" else process.name for process in PROCESSES}
    assert set(SERVICES) == names | NOT_THE_TABLES


@pytest.mark.parametrize("process", OURS, ids=lambda process: process.name)
def test_a_service_runs_its_process_and_asks_it_for_health(process: Process) -> None:
    service = service_of(process)
    assert service["command"] == process.name
    if process.probe == "exit":
        assert service["restart"] == "no" and "healthcheck" not in service
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "runner.container_probe", process.name]


def test_servers_that_are_not_ours_are_asked_by_what_their_images_hold() -> None:
    """Each at its own port and by the path by which it tells that it is ready."""
    kafka, clickhouse = (BY_NAME[name] for name in ("kafka", "clickhouse"))
    wanted = {
        "kafka": ["CMD", "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{kafka.port}"],
        "clickhouse": by_wget(f"{clickhouse.port}{clickhouse.health_path}"),
        "prometheus": by_wget("9090/-/ready"),
        "grafana": by_wget("3000/api/health"),
    }
    assert {name: SERVICES[name]["healthcheck"]["test"] for name in sorted(PUBLIC_IMAGES)} == wanted


def by_wget(place: str) -> list[str]:
    return ["CMD", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{place}"]


@pytest.mark.parametrize("name", sorted(name for name, of in SERVICES.items() if of["restart"] != "no"))
def test_whatever_goes_on_running_is_asked_again_and_again_within_bounds(name: str) -> None:
    asked = SERVICES[name]["healthcheck"]
    assert set(asked) == {"test", "interval", "timeout", "retries", "start_period"}
    # Docker waits for as long as a start may take, and then tells within half a minute.
    assert seconds(asked["start_period"]) >= 120 and seconds(asked["timeout"]) <= seconds(asked["interval"])
    assert asked["retries"] * seconds(asked["interval"]) <= 30


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_a_service_gets_as_long_to_end_as_its_process(process: Process) -> None:
    assert seconds(service_of(process)["stop_grace_period"]) == process.stop_grace_s


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_a_service_waits_for_what_its_process_needs(process: Process) -> None:
    probes = {each.name: each.probe for each in PROCESSES}
    wanted = {name: CONDITIONS[probes[name]] for name in process.needs} | NEEDS_BEYOND_THE_TABLE.get(process.name, {})
    found = {name: how["condition"] for name, how in service_of(process).get("depends_on", {}).items()}
    found.pop("secrets", None)  # below
    assert found == wanted


def test_who_reads_a_secret_starts_once_all_are_made() -> None:
    conditions = {name: of.get("depends_on", {}).get("secrets", {}).get("condition") for name, of in SERVICES.items()}
    read = {
        name
        for name, of in SERVICES.items()
        for one in of.get("volumes", [])
        if name != "secrets" and str(one).startswith(("secrets:", "handed_"))
    }
    # By way of ClickHouse, which waits for them itself.
    assert conditions.pop("analyst") is None and "clickhouse" in SERVICES["analyst"]["depends_on"]
    assert {name for name, condition in conditions.items() if condition} == read - {"analyst"}
    assert set(conditions.values()) == {None, "service_completed_successfully"}
    assert "depends_on" not in SERVICES["secrets"]


def test_what_shows_metrics_waits_for_nothing_that_serves() -> None:
    """A profile must not hold the platform up, nor the platform a profile."""
    assert "depends_on" not in SERVICES["prometheus"]
    assert SERVICES["grafana"]["depends_on"]["prometheus"] == {"condition": "service_started"}
    assert not {
        name for name, of in SERVICES.items() if {"prometheus", "grafana", "node-gpu"} & set(of.get("depends_on", {}))
    } - {"grafana"}


@pytest.mark.parametrize("process", OURS, ids=lambda process: process.name)
def test_ports_are_the_tables_and_published_only_for_customers_and_operators(process: Process) -> None:
    published = service_of(process).get("ports", [])
    wanted = f"${{HYDRA_PUBLISH_ADDRESS:-127.0.0.1}}:${{{process.port_setting}:-{process.port}}}:{process.port}"
    assert published == ([wanted] if process.kind in CALLED_FROM_OUTSIDE else [])


def test_addresses_are_the_tables() -> None:
    ports = {process.name: process.port for process in PROCESSES}
    told = FILE["x-process"]["environment"]
    urls = {name: f"http://{name}:{port}" for name, port in ports.items() if BY_NAME[name].probe == "http"}
    urls["worker"] = ",".join(f"http://{name}:{ports['worker']}" for name in ("node", "node-gpu"))
    assert {name: text for name, text in told.items() if name not in folders_of_the_file()} == {
        "HYDRA_KAFKA_BOOTSTRAP": f"kafka:{ports['kafka']}",
        **{f"HYDRA_{name.upper()}_URL": url for name, url in urls.items()},
        **{process.port_setting: process.port for process in PROCESSES if process.port is not None},
    }
    assert SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://kafka:{ports['kafka']}"


def folders_of_the_file() -> dict[str, Path]:
    """What the file says to every process of ours of where its files are."""
    told = FILE["x-process"]["environment"]
    return {name: Path(text) for name, text in told.items() if str(text).startswith("/")}


def settings_that_name_files() -> set[str]:
    """Of all our processes, by the names of their variables."""
    classes: list[type[BaseSettings]] = [PlatformSettings]
    for process in OURS:
        if process.module.startswith(("services.", "streams.")):
            module = importlib.import_module(f"{process.module}.settings")
            prefix = f"HYDRA_{process.name.upper()}_"
            classes += [one for one in vars(module).values() if prefix_of(one) == prefix]
    return {
        f"{prefix_of(one)}{name.upper()}"
        for one in classes
        for name, field in one.model_fields.items()
        if Path in (field.annotation, *get_args(field.annotation))
    }


def prefix_of(found: object) -> str | None:
    if not (isinstance(found, type) and issubclass(found, BaseSettings)):
        return None
    return found.model_config.get("env_prefix")


def test_no_settings_file_moves_what_is_kept() -> None:
    """What no volume covers is in memory, and gone with the container."""
    folders = folders_of_the_file()
    assert settings_that_name_files() >= set(folders)
    moved = settings_that_name_files() - set(folders) - FILES_OF_THE_OPERATORS - FOLDERS_OF_TESTS
    # Of several nodes each has another: its container's first process says which, whatever is set.
    assert moved == {NODE_FOLDER_SETTING}
    assert folders["HYDRA_HOME"] == HOME
    in_image = dict(re.findall(r"(HYDRA_HOME|HYDRA_CONFIG_DIR)=(\S+)", (ROOT / "Dockerfile").read_text()))
    assert {name: str(folders[name]) for name in in_image} == in_image
    spools = folders["HYDRA_GATEWAY_SPOOL_ROOT"]
    assert [one for one in SERVICES["gateway"]["volumes"] if spools.is_relative_to(one.split(":")[1])]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - PUBLIC_IMAGES))
def test_a_service_of_ours_is_told_what_no_settings_file_can_change(name: str) -> None:
    """In Compose `environment` goes before `env_file`."""
    assert FILE["x-process"]["environment"].items() <= SERVICES[name]["environment"].items()
    assert SERVICES[name]["env_file"]


def test_where_models_run_nothing_stands_of_the_settings_of_all_others() -> None:
    """An engine can read its node's environment; the others' may hold the password of a database."""
    files = {
        name: [(one["path"], one["required"]) for one in of["env_file"]]
        for name, of in SERVICES.items()
        if "env_file" in of
    }
    for name in MODELS_RUN_IN:
        assert files.pop(name) == [("${HYDRA_NODE_SETTINGS_FILE:-node.env}", False)]
    assert set(files) == set(SERVICES) - PUBLIC_IMAGES - MODELS_RUN_IN
    for found in files.values():
        assert found == [("${HYDRA_SETTINGS_FILE:-hydra.env}", False)]
    assert {"/hydra.env", "/node.env"} <= set((ROOT / ".gitignore").read_text().splitlines())


def test_kafka_has_the_limits_of_the_local_node() -> None:
    local = dict(line.split("=", 1) for line in server_properties(KafkaNode(1, 2, Path("/x"))).splitlines())
    addresses = {name for name in local if "listener" in name} | {"log.dirs", "controller.quorum.voters"}
    found = SERVICES["kafka"]["environment"]
    for name in local.keys() - addresses:
        assert str(found[f"KAFKA_{name.upper().replace('.', '_')}"]) == local[name], name


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_bounded_and_has_no_rights_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert service.get("read_only") or name in PUBLIC_IMAGES
    assert "privileged" not in service and service.get("user") not in ("root", "0", "0:0")
    # One number for soft and hard limit.
    assert service.get("ulimits") == (None if name in PUBLIC_IMAGES else {"nofile": "${HYDRA_OPEN_FILES:-65536}"})


def test_images_are_pinned_and_no_secret_stands_in_the_file() -> None:
    for name, service in SERVICES.items():
        tag = re.search(r":(?!-)([\w.-]+)\}?$", service["image"])
        assert tag and tag[1] != "latest", name
        for variable in service.get("environment", {}):
            assert not re.search(r"PASSWORD|SECRET|TOKEN", variable) or variable.endswith(("_FILE", "_URL", "_PORT")), (
                variable
            )


def secrets_named_by(process: Process) -> set[str]:
    """Found in the process's code, by the names of the constants."""
    place = ROOT / process.module.replace(".", "/")
    code = "".join(path.read_text() for path in (place.glob("*.py") if place.is_dir() else [place.with_suffix(".py")]))
    constants = {name: text for name, text in vars(secret_files).items() if name.isupper() and isinstance(text, str)}
    return {text for name, text in constants.items() if re.search(rf"\b{name}\b", code)}


def secrets_mounted_in(service: dict[str, Any]) -> list[str]:
    return [str(one) for one in service.get("volumes", []) if "/var/lib/hydra/secrets" in str(one)]


@pytest.mark.parametrize("process", OURS, ids=lambda process: process.name)
def test_a_service_sees_the_secrets_that_its_code_reads_and_no_other(process: Process) -> None:
    reads, mounted = secrets_named_by(process), secrets_mounted_in(service_of(process))
    reader = "node" if process.name == "worker" else process.name
    if process.name == "accounts":
        # The operator's command runs in its container, with all that the operator has.
        assert reads and mounted == ["secrets:/var/lib/hydra/secrets:ro"]
        return
    handed = [set(handed_to_readers(user).get(reader, ())) for user in (ADMIN, BILLING)]
    assert handed[0] | handed[1] == reads
    assert mounted == ([f"handed_{reader}:/var/lib/hydra/secrets:ro"] if reads else [])


def test_where_models_run_is_the_clusters_secret_alone() -> None:
    assert handed_to_readers(BILLING)["node"] == (secret_files.CLUSTER_SECRET,)
    for name in MODELS_RUN_IN:
        assert secrets_mounted_in(SERVICES[name]) == ["handed_node:/var/lib/hydra/secrets:ro"]


def test_only_the_operators_container_and_the_step_that_makes_them_see_all_secrets() -> None:
    whole = {name for name, of in SERVICES.items() for one in of.get("volumes", []) if str(one).startswith("secrets:")}
    assert whole == {"secrets", "accounts"}


def test_the_step_hands_each_reader_a_folder_that_the_image_made_for_it() -> None:
    """A volume takes owner and mode from the folder of the image; without one Docker would make it root's."""
    readers = {*handed_to_readers(BILLING), "clickhouse", "grafana"}
    mounted = {str(one) for one in SERVICES["secrets"]["volumes"]}
    assert mounted == {"secrets:/var/lib/hydra/secrets"} | {
        f"handed_{reader}:/var/lib/hydra/handed/{reader}" for reader in readers
    }
    made = {
        folder: mode
        for mode, folders in re.findall(
            r"install -d -o hydra -g hydra -m (\d+)([\s\\\w/]*)", (ROOT / "Dockerfile").read_text()
        )
        for folder in re.findall(r"[\w/]+", folders)
    }
    for reader in readers:
        assert made[f"handed/{reader}"] == ("0755" if reader in PUBLIC_IMAGES else "0700"), reader


def test_what_the_analysts_step_has_found_is_read_by_billing_and_the_operators_command_alone() -> None:
    mounted = {name: one for name, of in SERVICES.items() for one in of.get("volumes", []) if "access:" in str(one)}
    assert mounted == {
        "analyst": "access:/var/lib/hydra/access",
        "billing": "access:/var/lib/hydra/access:ro",
        "accounts": "access:/var/lib/hydra/access:ro",
    }
    assert SERVICES["billing"]["environment"][BILLING_USER_SETTING].endswith(":-found}")


def test_the_step_is_told_which_user_billing_reads_as() -> None:
    told, setting = SERVICES["secrets"]["environment"], SERVICES["billing"]["environment"]
    assert told[BILLING_USER_SETTING] == setting[BILLING_USER_SETTING]


def test_every_volume_has_a_use() -> None:
    named = {str(one).split(":")[0] for service in SERVICES.values() for one in service.get("volumes", [])}
    assert {name for name in named if not name.startswith((".", "/"))} == set(FILE["volumes"])


def test_prometheus_reads_every_process_that_has_metrics() -> None:
    """A job is named as its process, which the alert rules go by."""
    jobs = {}
    for job in yaml.safe_load((ROOT / "config" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]:
        fixed = [target for one in job.get("static_configs", []) for target in one["targets"]]
        found = [f"{name}:{one['port']}" for one in job.get("dns_sd_configs", []) for name in one["names"]]
        jobs[job["job_name"]] = fixed + found
    wanted = {each.name: [f"{each.name}:{each.port}"] for each in OURS if each.probe == "http"}
    wanted["worker"] = [f"{name}:{BY_NAME['worker'].port}" for name in ("node", "node-gpu")]
    assert jobs == wanted


def test_simulated_nodes_can_be_left_out_where_real_engines_serve() -> None:
    """What they answer is made up and billed like any answer. Whoever forgets the variable still has a platform."""
    assert SERVICES["node"]["deploy"] == {"replicas": "${HYDRA_SIMULATED_NODES:-1}"}
    assert "replicas" not in SERVICES["node-gpu"]["deploy"]
    # Compose skips what is wanted zero times where others only need it started.
    needs_node = {name: of["depends_on"]["node"] for name, of in SERVICES.items() if "node" in of.get("depends_on", {})}
    assert needs_node == {"gateway": {"condition": "service_started"}}
    for page in ("README.md", "docs/compose.md"):
        assert "HYDRA_SIMULATED_NODES=0 docker compose --profile gpu up" in (ROOT / page).read_text(), page
    header = TEXT.partition("\nname: hydra")[0]
    assert "HYDRA_SIMULATED_NODES=0" in header


def page(title: str) -> str:
    """A section of docs/compose.md."""
    section = (ROOT / "docs" / "compose.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert section, title
    return section


def test_the_page_lists_every_variable_of_the_file() -> None:
    used = set(re.findall(r"\$\{(\w+)", TEXT))
    used |= {name for of in SERVICES.values() for name, text in build_arguments(of).items() if text is None}
    ports = re.findall(r"^\|[^|]*\|[^|]*\|([^|]*)\|$", page("What is published"), re.MULTILINE)
    others = re.findall(r"^\|([^|]*)\|", page("Settings"), re.MULTILINE)
    assert set(re.findall(r"`([A-Z_]+)`", "".join([*ports, *others]))) == used


def build_arguments(service: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = service.get("build", {}).get("args", {})
    return found


def test_the_pages_file_for_a_databases_password_is_read_by_one_service() -> None:
    found = re.search(r"```yaml\n(.*?)```", page("Databases of your own"), re.DOTALL)
    assert found is not None
    override = yaml.safe_load(found[1])
    assert set(override["services"]) == {"accounts"}
    accounts = override["services"]["accounts"]
    setting = f"{prefix_of(AccountsSettings)}DATABASE_PASSWORD_FILE"
    assert setting in settings_that_name_files()
    assert accounts["environment"] == {setting: f"/run/secrets/{accounts['secrets'][0]}"}
    assert set(override["secrets"]) == set(accounts["secrets"])


def test_where_the_page_asks_for_status_is_all_that_the_command_needs() -> None:
    """The operator's token, what the step `analyst` has found, and the addresses, which all have."""
    asked_in = set(re.findall(r"docker compose exec (\w+) hydra status", (ROOT / "docs" / "compose.md").read_text()))
    assert asked_in == {"accounts", "billing"}
    assert secret_files.OPERATOR_TOKEN in handed_to_readers(BILLING)["billing"]
    for name in asked_in:
        assert "access:/var/lib/hydra/access:ro" in SERVICES[name]["volumes"]


def test_the_page_names_every_volume_and_what_its_loss_means() -> None:
    """Under Back-up; what is handed to a reader is made again at each start."""
    section = page("Back-up and upgrade")
    named = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\|([^|]+)\|", section, re.MULTILINE))))
    assert named == {name for name in FILE["volumes"] if not name.startswith("handed_")}


def test_the_page_says_who_can_read_which_file() -> None:
    section = page("Secrets")
    for reader in ("clickhouse", "grafana"):
        assert f"handed_{reader}:/run/handed:ro" in SERVICES[reader]["volumes"]
    assert (
        f"mode 0{OWNERS_ONLY:o}" in section and f"mode 0{READABLE:o}" in section and "/run/handed/password" in section
    )


def test_a_change_of_code_installs_nothing_anew() -> None:
    """Layers below a COPY of what has changed are made again: of the code's, only what takes seconds may be."""
    stages = re.split(r"(?m)^FROM ", (ROOT / "Dockerfile").read_text())[1:]
    with_code = [stage for stage in stages if re.search(r"(?m)^COPY \. \.$", stage)]
    assert with_code
    for stage in with_code:
        before, _, behind = stage.partition("COPY . .")
        assert "pip install" in before and "pip install" not in behind
    for stage in stages:
        installs, code = stage.find("pip install"), re.search(r"(?m)^COPY (\. \.|--from=platform .*/opt/hydra)", stage)
        assert code is None or installs < code.start()
