"""The main job, step by step: account, key, shared model, own service, bill. Exit code 0 only if the numbers agree."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from typing import Any

from cli.commands.usage import show_summary
from cli.control import Control
from cli.demo.customer import Customer
from cli.demo.tally import Tally, disagreements
from cli.failures import EXIT_OK, EXIT_REFUSED, CommandFailed
from cli.output import out
from cli.settings import CliSettings

SHARED = "public/deepseek-r1"
OWN_MODEL = "qwen2.5-7b-instruct"
SERVICE = "demo"
POLL_S = 0.25
READY_DEADLINE_S = 600.0
BILL_DEADLINE_S = 90.0
SERVES_AT_LEAST_S = 7.0
"""How long the last instance serves: heartbeats prove its time every 5 s, and what none has proven is not billed."""


class Story:
    """One play on a running platform. `play` prints what happens and returns an exit code."""

    def __init__(self, settings: CliSettings, engine: str) -> None:
        self._settings = settings
        self._engine = engine
        self._control = Control(settings)
        self._tally = Tally()
        self._first_seen: dict[str, float] = {}

    def play(self) -> int:
        """Raises CommandFailed where the platform refuses or does not get ready in time."""
        name = f"demo-{secrets.token_hex(3)}"
        account = self._step("create an account", lambda: self._create_account(name))
        key = self._step("create an API key", lambda: self._create_key(account))
        customer = Customer(self._settings.url("gateway"), key, self._tally)
        self._wait("the gateway knows the key", lambda: SHARED in _models(customer))
        self._step(f"call {SHARED}", lambda: customer.ask(SHARED))
        self._step(f"call {SHARED}, streaming", lambda: customer.ask_streaming(SHARED))
        self._own_service(account, customer)
        return self._judge(account)

    def _create_account(self, name: str) -> str:
        account: str = self._control.send("POST", "accounts", "/v1/accounts", {"name": name})["id"]
        return account

    def _create_key(self, account: str) -> str:
        key: str = self._control.send("POST", "accounts", f"/v1/accounts/{account}/keys", {"name": "demo"})["key"]
        return key

    def _own_service(self, account: str, customer: Customer) -> None:
        path = f"/v1/services/{SERVICE}"
        region, spec = self._where_it_fits()
        body = {"name": SERVICE, "model": OWN_MODEL, "region": region, "spec": spec, "replicas": 1}
        self._step(
            f"deploy {account}/{SERVICE} ({OWN_MODEL} on {spec} in {region})",
            lambda: self._control.send("POST", "lifecycle", "/v1/services", body, account=account),
        )
        own = f"{account}/{SERVICE}"
        self._await_replicas(account, 1)
        self._wait(f"the gateway offers {own}", lambda: own in _models(customer))
        self._step(f"call {own}", lambda: customer.ask(own))
        self._step(
            "scale it to two",
            lambda: self._control.send("POST", "lifecycle", f"{path}/scale", {"replicas": "2"}, account=account),
        )
        self._await_replicas(account, 2)
        for _ in range(4):
            customer.ask_streaming(own)
        time.sleep(SERVES_AT_LEAST_S)
        self._step(
            "delete it", lambda: self._control.send("DELETE", "lifecycle", path, account=account, confirm=SERVICE)
        )
        now = time.monotonic()
        for instance, since in self._first_seen.items():
            self._tally.seconds_max[instance] = now - since + 1.0

    def _where_it_fits(self) -> tuple[str, str]:
        models = self._control.get("lifecycle", "/v1/models")["data"]
        model = next(model for model in models if model["id"] == OWN_MODEL)
        offer = model["offers"][0]
        return offer["region"], offer["spec"]

    def _await_replicas(self, account: str, wanted: int) -> None:
        def ready() -> bool:
            service = self._control.get("lifecycle", f"/v1/services/{SERVICE}", account=account)
            for instance in service["instances"]:
                self._first_seen.setdefault(instance["id"], time.monotonic())
            return int(service["ready"]) >= wanted

        self._wait(f"{wanted} instance{'s' if wanted > 1 else ''} ready", ready)

    def _judge(self, account: str) -> int:
        bill: dict[str, Any] = {}
        wrong: list[str] = []

        def agrees() -> bool:
            bill.update(self._control.get("billing", "/v1/bill", account=account))
            wrong[:] = disagreements(self._tally, bill, SHARED)
            return not wrong

        with contextlib.suppress(CommandFailed):  # what is wrong with the bill is said below
            self._wait("the bill is complete in ClickHouse", agrees, BILL_DEADLINE_S)
        show_summary(f"Bill of {account}", bill)
        seen = self._tally
        out.print(
            f"\nThe client saw {sum(seen.requests.values())} answers: of {SHARED} {seen.prompt_tokens[SHARED]} prompt "
            f"and {seen.completion_tokens[SHARED]} completion tokens, and {len(seen.seconds_max)} instances of its own."
        )
        if wrong:
            for sentence in wrong:
                out.print(f"DISAGREES: {sentence}", style="red", markup=False)
            return EXIT_REFUSED
        out.print(f"The bill agrees with what the client saw. Engine: {self._engine}.", style="bold green")
        self._say_what_next(account)
        return EXIT_OK

    def _say_what_next(self, account: str) -> None:
        out.print(
            "\nWhat to try next:\n"
            "  make up                       keep the platform running (another terminal)\n"
            "  ./hydra account create acme   an account of your own; then ./hydra key create --account ID\n"
            "  ./hydra model ls              what can be called or deployed\n"
            f"  ./hydra bill --account {account}\n"
            "  ./hydra sql                   the analysts' views\n"
            "  make demo ENGINE=sglang       the same on SGLang itself, on the CPU",
            markup=False,
        )

    def _step(self, what: str, act: Callable[[], Any]) -> Any:
        began = time.monotonic()
        answer = act()
        shown = f": {answer.strip()[:70]!r}" if isinstance(answer, str) and " " in answer.strip() else ""
        out.print(f"  [green]done[/green] {what} ({time.monotonic() - began:.1f} s)", end="")
        out.print(shown, markup=False)
        return answer

    def _wait(self, for_what: str, happened: Callable[[], bool], deadline_s: float = READY_DEADLINE_S) -> None:
        began = time.monotonic()
        with out.status(f"waiting until {for_what}"):
            while not happened():
                if time.monotonic() - began > deadline_s:
                    raise CommandFailed(f"gave up after {deadline_s:.0f} s waiting until {for_what}")
                time.sleep(POLL_S)
        out.print(f"  [green]done[/green] {for_what} ({time.monotonic() - began:.1f} s)")


def _models(customer: Customer) -> list[str]:
    from openai import APIStatusError

    try:
        return customer.models()
    except APIStatusError:
        return []  # the key has not arrived yet: that is what is being waited for
