"""A node agent that says what a test tells it to, through the real topic, in the real events."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from adapters.kafka.producer import EventProducer
from domain.ids import heartbeat_id
from schemas import codec
from schemas.heartbeats import EngineState, InstanceHeartbeat, NodeHeartbeat, ReadyPeriod
from schemas.topics import HEARTBEATS


@dataclass
class ScriptedAgent:
    """A node with GPUs. Time is what the test says: every heartbeat is given when it was sent."""

    producer: EventProducer
    node: str
    region: str
    gpus: int = 8
    start: int = 1
    beats: dict[str, int] = field(default_factory=dict)

    def _next(self, of: str) -> int:
        self.beats[of] = self.beats.get(of, 0) + 1
        return self.beats[of]

    async def says_it_lives(self, *instances: str) -> None:
        """The node's own heartbeat."""
        beat = self._next(self.node)
        now = datetime.now(UTC)
        data = NodeHeartbeat(
            node=self.node,
            start=self.start,
            beat=beat,
            sent=now,
            region=self.region,
            engine="simulated",
            gpu="h20",
            gpus=self.gpus,
            memory_gb=141,
            instances=instances,
        )
        event = codec.event(
            data, id=f"{self.node}-{self.start}-{beat}", source="/hydra/worker", subject=self.node, time=now
        )
        await self.producer.publish(HEARTBEATS, self.node, codec.encode(event))

    def heartbeat(
        self,
        instance: str,
        state: EngineState,
        *periods: ReadyPeriod,
        epoch: int = 1,
        sent: datetime | None = None,
        detail: str | None = None,
    ) -> InstanceHeartbeat:
        """The next heartbeat of an instance, not sent yet."""
        return InstanceHeartbeat(
            node=self.node,
            instance=instance,
            epoch=epoch,
            beat=self._next(f"{instance}/{epoch}"),
            state=state,
            sent=sent or datetime.now(UTC),
            address="127.0.0.1:31000" if state == "ready" else None,
            periods=periods,
            detail=detail,
        )

    async def send(self, *heartbeats: InstanceHeartbeat) -> None:
        """Publish heartbeats in this order."""
        for one in heartbeats:
            event = codec.event(
                one,
                id=heartbeat_id(one.instance, one.epoch, one.beat),
                source="/hydra/worker",
                subject=one.instance,
                time=one.sent,
            )
            await self.producer.publish(HEARTBEATS, one.instance, codec.encode(event))

    async def says(
        self,
        instance: str,
        state: EngineState,
        *periods: ReadyPeriod,
        epoch: int = 1,
        sent: datetime | None = None,
        detail: str | None = None,
    ) -> None:
        """Send the next heartbeat of an instance."""
        await self.send(self.heartbeat(instance, state, *periods, epoch=epoch, sent=sent, detail=detail))
