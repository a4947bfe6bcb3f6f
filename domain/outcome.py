"""Who pays for what.

What the platform breaks, the platform pays. What the client breaks off, the client pays up to the abort.
"""

from __future__ import annotations

from domain.ids import OPERATOR_ACCOUNT
from schemas.charges import UnbilledReason
from schemas.instances import InstanceChanged
from schemas.usage import TokensUsed, UsageOutcome

UNBILLED_OUTCOMES: dict[UsageOutcome, UnbilledReason | None] = {
    "completed": None,
    "client_gone": None,
    "client_gone_unreported": "no_report",
    "engine_lost": "engine_lost",
    "engine_refused": "engine_refused",
    "gateway_lost": "gateway_lost",
    "upstream_timeout": "upstream_timeout",
    "refused": "refused",
}
"""Why a request that ended so is not charged, whatever tokens were seen; None where its tokens are."""


def unbilled_usage(usage: TokensUsed) -> UnbilledReason | None:
    """Why this request is not charged, or None where its tokens are.

    Raises ValueError for an answered request that does not say how its service is billed: that cannot be guessed.
    """
    reason = UNBILLED_OUTCOMES[usage.outcome]
    if reason is not None:
        return reason
    if usage.billing is None:
        raise ValueError("an answered request that names no billing mode")
    if usage.billing == "time":
        return "billed_by_time"
    if usage.billing == "operator":
        return "operator"
    if usage.prompt_tokens is None and usage.completion_tokens is None:
        return "no_report"
    if not usage.prompt_tokens and not usage.completion_tokens:
        return "no_tokens"
    return None


def unbilled_instance(changed: InstanceChanged) -> UnbilledReason | None:
    """Why this instance event is not charged, or None where its interval is.

    Only a customer's own service is paid by time; an instance of `public`, or of a service that is paid by token,
    is the operator's own cost.
    """
    interval = changed.interval
    if interval is None or interval.billable_from == interval.billable_until:
        return "not_billable"
    if changed.billing != "time" or changed.account == OPERATOR_ACCOUNT:
        return "operator"
    return None
