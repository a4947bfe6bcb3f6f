"""Makes the readers real SQL users of a ClickHouse server, with profile, quota and row policies; or says why it cannot.

The embedded engine has no users of its own: there our server holds its readers to the same limits. The server is asked
which of the two it is, and what the analyst may do is then read back as the analyst itself. On a server without access
control that knows no readers either, billing reads as the server's owner, each question with billing's limits.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace
from typing import Literal

from adapters.clickhouse.client import ADMIN, ANALYST, BILLING, ClickHouse, ClickHouseAddress, code_of
from adapters.clickhouse.found_access import FoundAccess
from adapters.clickhouse.reader_limits import ReaderLimits
from adapters.errors import Misconfigured, Unavailable

ATTEMPTS_MAX = 10
PAUSE_S = 2.0

# ClickHouse's error codes.
_UNKNOWN_TABLE = 60
_ACCESS_DENIED = 497
_NO_PLACE_FOR_USERS = frozenset({495, 514})  # ACCESS_STORAGE_READONLY, ACCESS_STORAGE_FOR_INSERTION_NOT_FOUND
_AUTHENTICATION_FAILED = 516

_USER_STORES = """
SELECT count() FROM system.user_directories
WHERE type IN ('local_directory', 'local directory', 'memory', 'replicated')
"""
_READ_BACK = """
SELECT name, value FROM system.settings WHERE name = 'readonly' OR name IN {names:Array(String)}
"""


@dataclass(frozen=True)
class Reader:
    """One who reads: the limits and the password."""

    limits: ReaderLimits
    password: str


@dataclass(frozen=True)
class _Hindrance:
    """Why no user can be made; `by_rights` where others may make some, so that the server has access control."""

    why: str = ""
    by_rights: bool = False

    def __bool__(self) -> bool:
        return bool(self.why)


_NO_STORE = _Hindrance("the server keeps no users made by SQL")


def statements_for(reader: Reader, database: str) -> list[str]:
    """The statements that make a reader a SQL user, in their order; all of them may be run again.

    The user has its profile from its first moment on and can read nothing until the last statement: at no time is it
    without a limit. Its password is in no statement, for the server logs those. Views are read with the rights of who
    asks (ClickHouse's default), or row policies would not hold in them: so the tables below them are granted too.
    """
    limits = reader.limits
    user, profile = f"`{limits.user}`", f"`hydra_{limits.user}`"
    digest = hashlib.sha256(reader.password.encode()).hexdigest()
    values = {
        "readonly": 1,
        "max_concurrent_queries_for_user": limits.concurrent_queries_max,
        **limits.engine_settings(),
    }
    settings = ", ".join(f"{name} = {value!r}" for name, value in values.items())
    queries = limits.queries_per_hour_max
    bound = f"MAX queries = {queries}" if queries else "TRACKING ONLY"
    return [
        f"CREATE SETTINGS PROFILE OR REPLACE {profile} SETTINGS {settings}",
        f"CREATE USER OR REPLACE {user} IDENTIFIED WITH sha256_hash BY '{digest}' HOST ANY"
        f" DEFAULT DATABASE `{database}` GRANTEES NONE SETTINGS PROFILE {profile}",
        f"CREATE QUOTA OR REPLACE {profile} KEYED BY user_name FOR INTERVAL 1 hour {bound} TO {user}",
        *(_row_policies(limits, database) if limits.user == ANALYST else ()),
        f"GRANT SELECT ON `{database}`.* TO {user}",
    ]


def _row_policies(limits: ReaderLimits, database: str) -> list[str]:
    """On each table that has rows of accounts: one policy for the analyst, and before it one for everybody else, whom a
    server may be set to show nothing without one."""
    statements = []
    for table, condition in limits.row_conditions().items():
        where = f"ON `{database}`.`{table}` FOR SELECT USING"
        statements.append(f"CREATE ROW POLICY OR REPLACE hydra_others {where} 1 TO ALL EXCEPT `{limits.user}`")
        statements.append(f"CREATE ROW POLICY OR REPLACE hydra_analyst {where} {condition} TO `{limits.user}`")
    return statements


async def make_sql_users(
    address: ClickHouseAddress,
    analyst: Reader,
    billing: Reader,
    *,
    attempts_max: int = ATTEMPTS_MAX,
    pause_s: float = PAUSE_S,
) -> FoundAccess:
    """Makes the readers SQL users where the server has access control. Says in one line what holds the analyst, and as
    whom billing reads.

    Can be run again at any time. Raises Unavailable when ClickHouse does not answer after `attempts_max` attempts, and
    Misconfigured when the analyst may change something.
    """
    for attempt in range(1, attempts_max + 1):
        try:
            return await _made(address, analyst, billing)
        except Unavailable:
            if attempt == attempts_max:
                raise
        await asyncio.sleep(pause_s)
    raise AssertionError("no attempt was allowed")


async def _made(address: ClickHouseAddress, analyst: Reader, billing: Reader) -> FoundAccess:
    admin = ClickHouse(address, connections_max=1)
    try:
        # On a new server this may come before the warehouse, whose migrations want the same.
        await admin.create_database()
        hindrance = await _hindrance(admin)
        wanted = statements_for(analyst, address.database) + statements_for(billing, address.database)
        for statement in () if hindrance else wanted:
            try:
                await admin.command(statement)
            except Unavailable as error:
                hindrance = _why_refused(code_of(error.__cause__), address.user)
                if not hindrance:
                    raise
                break
    finally:
        await admin.close()
    verdict, is_there = await _verdict(address, analyst, hindrance)
    billing_user = BILLING if not hindrance else await _billing_user(address, billing, hindrance)
    if billing_user == ADMIN:
        verdict += f"; billing reads as {ADMIN}, each question read-only and within billing's limits"
    return FoundAccess(
        analyst=verdict,
        billing_user=billing_user,
        analyst_user=ANALYST if is_there or hindrance.by_rights else ADMIN,
    )


async def _billing_user(
    address: ClickHouseAddress, billing: Reader, hindrance: _Hindrance
) -> Literal["billing", "hydra"]:
    """The owner only where nobody could make billing a user: else somebody is to make one."""
    if hindrance.by_rights:
        return BILLING
    client = ClickHouse(replace(address, user=BILLING, password=billing.password), connections_max=1)
    try:
        await client.query("SELECT 1")
    except Unavailable as error:
        if code_of(error.__cause__) == _AUTHENTICATION_FAILED:
            return ADMIN
        raise
    finally:
        await client.close()
    return BILLING


async def _hindrance(admin: ClickHouse) -> _Hindrance:
    """None where a user can be made: the server is asked for a place that keeps users made by SQL."""
    try:
        rows = await admin.query(_USER_STORES)
    except Unavailable as error:
        if code_of(error.__cause__) == _UNKNOWN_TABLE:
            return _Hindrance("the server is older than SQL access control")
        raise
    return _Hindrance() if rows[0][0] else _NO_STORE


def _why_refused(code: int, user: str) -> _Hindrance:
    if code == _ACCESS_DENIED:
        why = f"the user {user} may not make users: GRANT ACCESS MANAGEMENT ON *.* TO {user}, with its grant option"
        return _Hindrance(why, by_rights=True)
    return _NO_STORE if code in _NO_PLACE_FOR_USERS else _Hindrance()


async def _verdict(address: ClickHouseAddress, analyst: Reader, hindrance: _Hindrance) -> tuple[str, bool]:
    """What the analyst finds when it logs in, whose limits are read back, not believed; and whether it can."""
    wanted = {name: str(value) for name, value in analyst.limits.engine_settings().items()}
    client = ClickHouse(replace(address, user=ANALYST, password=analyst.password), connections_max=1)
    try:
        found = dict(await client.query(_READ_BACK, {"names": sorted(wanted)}))
    except Unavailable as error:
        if hindrance and code_of(error.__cause__) == _AUTHENTICATION_FAILED:
            return f"no analyst: {hindrance.why}, and none was made by hand (docs/analysts.md)", False
        raise
    finally:
        await client.close()
    if found.get("readonly") != "1":
        raise Misconfigured(
            f"the ClickHouse user {ANALYST} is not read-only (readonly is {found.get('readonly', 'not known')}), "
            f"and {hindrance.why or 'its profile does not hold'}; give it SETTINGS readonly = 1 (docs/analysts.md)"
        )
    weaker = sorted(name for name, value in wanted.items() if found.get(name) != value)
    if not hindrance:
        what = "SQL user on the server"
    else:
        what = "limits by the embedded server" if not weaker else f"user made by hand ({hindrance.why})"
    return f"analyst: {what}" + (f"; other than set: {', '.join(weaker)}" if weaker else ""), True
