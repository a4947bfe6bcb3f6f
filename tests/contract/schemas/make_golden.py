"""Writes a golden message for every event type that has none. Those that exist are never rewritten."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec

from domain import ids
from schemas import (
    accounts,
    charges,
    codec,
    deployments,
    heartbeats,
    instances,
    parked,
    placements,
    prices,
    spend,
    stops,
)
from schemas import usage as usages
from schemas.topics import TYPE_NAMES

GOLDEN = Path(__file__).parent / "golden"
AT = datetime(2026, 11, 1, 8, 30, 15, 250_000, UTC)
HOUR = datetime(2026, 11, 1, 8, tzinfo=UTC)
NEXT = datetime(2026, 11, 1, 8, 31, tzinfo=UTC)
ACCOUNT, SERVICE, INSTANCE, NODE, KEY = (
    "u-8105f7322477",
    "s-0123456789ab",
    "i-00aa11bb22cc",
    "n-ffeeddccbbaa",
    "k-5566778899aa",
)
REQUEST = "cmp-000102030405060708090a0b0c0d0e0f"
MONEY = {"CNY": Decimal("12.345678901234")}


def examples() -> list[tuple[str, msgspec.Struct]]:
    """(event id, data) of every event type, with every field set."""
    line = charges.ChargeLine(
        id=ids.charge_id(REQUEST, "input_tokens", ids.stamp(AT), 1),
        meter="input_tokens",
        quantity=1500,
        unit="token",
        unit_price=Decimal("4.000000"),
        per=1_000_000,
        amount=Decimal("0.006000000000"),
        currency="CNY",
        price_id="deepseek-r1/input_tokens",
        price_version=1,
        price_source="published",
        segment_from=AT,
        segment_until=AT,
        payload_hash="0" * 32,
    )
    attempt = usages.Attempt(
        instance="i-deadbeefdead",
        epoch=2,
        engine_request_id="cmp-0f0e0d0c0b0a09080706050403020100",
        started=HOUR,
        ended=AT,
        outcome="engine_lost",
    )
    return [
        (
            REQUEST,
            usages.TokensUsed(
                request_id=REQUEST,
                account=ACCOUNT,
                key_id=KEY,
                access_path="public/deepseek-r1",
                endpoint="chat.completions",
                streamed=True,
                received=HOUR,
                ended=AT,
                outcome="completed",
                status=200,
                service_id=SERVICE,
                model="deepseek-r1",
                region="sh-02",
                billing="token",
                instance=INSTANCE,
                epoch=1,
                first_token=AT,
                prompt_tokens=1500,
                cached_tokens=500,
                completion_tokens=20,
                error_code=None,
                client_request_id="mine",
                attempts=(attempt,),
                gateway="g-1",
            ),
        ),
        (
            ids.instance_event_id(INSTANCE, 1, 3),
            instances.InstanceChanged(
                instance=INSTANCE,
                epoch=1,
                sequence=3,
                state="ready",
                at=NEXT,
                account=ACCOUNT,
                service_id=SERVICE,
                access_path=f"{ACCOUNT}/test",
                model="qwen2.5-7b-instruct",
                region="sh-02",
                spec="rtx4090-1",
                billing="time",
                node=NODE,
                reason="periodic",
                interval=instances.BillableInterval(
                    billable_from=HOUR, billable_until=NEXT, period=1, start_moved=True
                ),
            ),
        ),
        (
            ids.charges_event_id(REQUEST, 1),
            charges.ChargesRaised(
                source_event=REQUEST,
                source_type="usage",
                source_hash="f" * 32,
                account=ACCOUNT,
                rating_version=1,
                access_path="public/deepseek-r1",
                resource="public/deepseek-r1",
                service_id=SERVICE,
                model="deepseek-r1",
                region="sh-02",
                spec=None,
                instance=INSTANCE,
                key_id=KEY,
                lines=(line,),
            ),
        ),
        (
            "deepseek-r1/input_tokens@1",
            prices.PriceRecorded(
                price_id="deepseek-r1/input_tokens",
                version=1,
                meter="input_tokens",
                unit_price=Decimal("4"),
                per=1_000_000,
                currency="CNY",
                effective_from=HOUR,
                recorded_at=HOUR,
                source="published",
                model="deepseek-r1",
                effective_until=NEXT,
            ),
        ),
        (f"{ACCOUNT}/x@7", spend.SpendStated(account=ACCOUNT, hour=HOUR, totals=MONEY, covers_offset=7)),
        (
            f"{ACCOUNT}@3",
            spend.BalanceStated(
                account=ACCOUNT,
                version=3,
                hour=HOUR,
                day=HOUR,
                month=HOUR,
                spent_hour=MONEY,
                spent_day=MONEY,
                spent_month=MONEY,
                spent_total=MONEY,
                covers_offset=7,
            ),
        ),
        (
            f"{ACCOUNT}@1",
            accounts.AccountState(
                account=ACCOUNT,
                version=1,
                name="acme",
                status="active",
                created=AT,
                currency="CNY",
                spend_limit=Decimal("100"),
            ),
        ),
        (
            f"{KEY}@1",
            accounts.ApiKeyState(
                key_id=KEY,
                version=1,
                account=ACCOUNT,
                name="default",
                key_hash="a" * 64,
                masked="sk-abcd...wxyz",
                scopes=("inference", "billing"),
                status="active",
                created=AT,
            ),
        ),
        (
            f"{SERVICE}@4",
            deployments.DeploymentState(
                service_id=SERVICE,
                version=4,
                account=ACCOUNT,
                access_path=f"{ACCOUNT}/test",
                model="qwen2.5-7b-instruct",
                region="sh-02",
                billing="time",
                status="running",
                created=AT,
                instances_wanted=1,
                endpoints=(deployments.Endpoint(instance=INSTANCE, epoch=1, address="127.0.0.1:9"),),
                ever_ready=True,
            ),
        ),
        (
            f"{INSTANCE}@2",
            placements.PlacementState(
                instance=INSTANCE,
                version=2,
                node=NODE,
                service_id=SERVICE,
                access_path=f"{ACCOUNT}/test",
                model="qwen2.5-7b-instruct",
                spec="rtx4090-1",
                wanted="draining",
                drain_until=NEXT,
                acknowledged_epoch=1,
                acknowledged_period=2,
            ),
        ),
        (
            ids.heartbeat_id(INSTANCE, 1, 9),
            heartbeats.InstanceHeartbeat(
                node=NODE,
                instance=INSTANCE,
                epoch=1,
                beat=9,
                state="ready",
                sent=AT,
                address="127.0.0.1:9",
                counters=heartbeats.EngineCounters(prompt_tokens=1, cached_tokens=2, generation_tokens=3, requests=4),
                periods=(heartbeats.ReadyPeriod(number=1, began=HOUR, ready_seconds=60, closed=True),),
                detail="as expected",
            ),
        ),
        (
            f"{NODE}-1-9",
            heartbeats.NodeHeartbeat(
                node=NODE,
                start=1,
                beat=9,
                sent=AT,
                region="sh-02",
                engine="simulated",
                gpu="rtx4090",
                gpus=8,
                memory_gb=24,
                instances=(INSTANCE,),
            ),
        ),
        (
            "token_charges/hydra.usage/0/5",
            parked.MessageParked(
                processor="token_charges",
                topic="hydra.usage",
                partition=0,
                offset=5,
                reason="undecodable",
                detail="not a JSON event",
                parked_at=AT,
                value=b"\x00not json",
                key=b"u-1",
            ),
        ),
        (
            "token_charges/hydra.usage/0/5@1",
            parked.ParkedReplayed(
                processor="token_charges", topic="hydra.usage", partition=0, offset=5, replayed_at=AT
            ),
        ),
        (
            "token_charges/accepted/2026-11-01T08:30:15.250000+00:00",
            stops.StopNoted(
                process="token_charges",
                what="accepted",
                at=AT,
                reason="the disk of broker 2 is lost",
                gaps=(stops.Gap("hydra.usage", 3, 120, 180),),
                reread=(stops.Reread("hydra.usage", 1),),
                by="operator",
            ),
        ),
    ]


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for id, data in examples():
        path = GOLDEN / f"{TYPE_NAMES[type(data)]}.json"
        if not path.exists():
            event = codec.event(data, id=id, source="/hydra/golden", subject=id, time=AT, traceparent="00-" + "1" * 32)
            path.write_bytes(codec.encode(event) + b"\n")


if __name__ == "__main__":
    main()
