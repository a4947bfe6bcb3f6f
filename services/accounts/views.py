"""Requests and answers of the HTTP interface, with their examples."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from domain.money import shortest
from schemas.accounts import AccountStatus, KeyStatus, Scope
from services.accounts.records import Account, ApiKey

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Amount = Annotated[Decimal, Field(ge=0, max_digits=24, decimal_places=12)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AccountCreate(_Request):
    """A new account."""

    name: Name = Field(examples=["acme"])
    spend_limit: Amount | None = Field(None, description="Refuse requests (402) once this much is spent.")
    currency: str | None = Field(
        None, pattern=r"^[A-Z]{3}$", description="The platform's, which is also the default: no other is taken."
    )

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "acme", "spend_limit": "100"}]})


class AccountChange(_Request):
    """What is left out stays as it is; `spend_limit: null` removes the limit."""

    name: Name | None = None
    status: AccountStatus | None = None
    spend_limit: Amount | None = None

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"status": "suspended"}]})

    @field_validator("name", "status")
    @classmethod
    def _not_null(cls, value: str | None) -> str | None:
        if value is None:
            raise ValueError("leave it out or give it a value")
        return value


class AccountView(BaseModel):
    """An account."""

    id: str = Field(examples=["u-8105f7322477"])
    name: str = Field(examples=["acme"])
    status: AccountStatus
    currency: str = Field(examples=["CNY"])
    spend_limit: str | None = Field(None, description="A decimal in `currency`.", examples=["100"])
    created: datetime

    @classmethod
    def of(cls, account: Account) -> AccountView:
        limit = account.spend_limit
        return cls(
            id=account.id,
            name=account.name,
            status=account.status,
            currency=account.currency,
            spend_limit=None if limit is None else shortest(limit),
            created=account.created,
        )


class AccountPage(BaseModel):
    """Accounts in the order of their creation."""

    data: list[AccountView]
    next_cursor: str | None = None


class KeyCreate(_Request):
    """A new API key. `inference` calls models, `billing` reads usage and bills, `manage` deploys and manages keys."""

    name: Name = Field("default", examples=["production"])
    scopes: list[Scope] = Field(["inference", "billing"], min_length=1, max_length=3)

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "production", "scopes": ["inference", "billing"]}]}
    )


class KeyChange(_Request):
    """What is left out stays as it is."""

    name: Name | None = None
    status: KeyStatus | None = Field(None, description="`active` or `disabled`; to delete, use DELETE.")

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"status": "disabled"}]})

    @field_validator("name", "status")
    @classmethod
    def _settable(cls, value: str | None) -> str | None:
        if value is None:
            raise ValueError("leave it out or give it a value")
        if value == "deleted":
            raise ValueError("use DELETE to delete a key")
        return value


class KeyView(BaseModel):
    """An API key without the key itself."""

    id: str = Field(examples=["k-5566778899aa"])
    account: str = Field(examples=["u-8105f7322477"])
    name: str
    masked: str = Field(description="Its first 7 and last 4 characters.", examples=["sk-AbCd...wXyZ"])
    scopes: list[Scope]
    status: KeyStatus
    created: datetime
    last_used: datetime | None = Field(None, description="A few seconds behind.")

    @classmethod
    def of(cls, key: ApiKey) -> KeyView:
        return cls(
            id=key.id,
            account=key.account,
            name=key.name,
            masked=key.masked,
            scopes=list(key.scopes),
            status=key.status,
            created=key.created,
            last_used=key.last_used,
        )


class KeyMade(KeyView):
    """A new key, shown this once."""

    key: str = Field(description="Keep it now: it is stored nowhere.", examples=["sk-" + "x" * 43])


class KeyRemembered(KeyView):
    """What is stored of a creation for a repeated request: never the key."""

    nonce: str


class KeyPage(BaseModel):
    """An account's keys that are not deleted, in the order of their creation."""

    data: list[KeyView]
    next_cursor: str | None = None
