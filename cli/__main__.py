"""The command `hydra`. `main` is the entry point; every failure ends in one sentence and an exit code."""

from __future__ import annotations

import sys

import typer
from pydantic import ValidationError

from adapters.errors import HydraError
from cli.commands import accounts, charges, keys, models, parked, platform, prices, resume, services, sql, usage
from cli.failures import EXIT_REFUSED, CommandFailed
from cli.output import err
from domain.ids import with_keys_masked

EPILOG = """Exit codes: 0 done; 1 refused or failed; 2 wrong command line; 3 nothing answers; 4 not found.

Settings are environment variables: HYDRA_HOME (the platform's folder), HYDRA_API_KEY (act as a customer),
HYDRA_GATEWAY_PORT and its like. docs/settings.md lists them all."""

app = typer.Typer(
    name="hydra",
    help="Serve large language models and bill for them to the token and the second.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
platform.add_to(app)
resume.add_to(app)
app.add_typer(accounts.app, name="account")
app.add_typer(keys.app, name="key")
app.add_typer(models.app, name="model")
app.add_typer(prices.app, name="price")
app.add_typer(services.app, name="service")
usage.add_to(app)
charges.add_to(app)
app.add_typer(parked.app, name="parked")
sql.add_to(app)


def main() -> None:
    """Run the command line; never shows a traceback for what an operator can mend."""
    try:
        app()
    except CommandFailed as failure:
        _tell(str(failure))
        sys.exit(failure.exit_code)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        _tell(f"setting HYDRA_{name}: {first['msg']}")
        sys.exit(EXIT_REFUSED)
    except HydraError as error:
        _tell(str(error))
        sys.exit(EXIT_REFUSED)
    except KeyboardInterrupt:
        sys.exit(130)


def _tell(sentence: str) -> None:
    # A script keeps what goes to stderr, and services name in their sentences what they were asked for.
    err.print(f"hydra: {with_keys_masked(sentence)}", style="red", markup=False)


if __name__ == "__main__":
    main()
