"""The ``driftline`` command: registers what the other files of this folder do, and ends every run with one exit code.

0 done; 1 the answer is no, or something failed on the way; 2 wrong use or configuration; 3 not enough data;
130 ended by Ctrl-C.
"""

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from driftline import (
    __version__,
    alerts,
    backtest_command,
    bench,
    broker,
    bundle_command,
    compare,
    dead_letters,
    demo,
    demo_life,
    evaluate,
    export,
    keys,
    predict,
    produce,
    promote,
    rebaseline,
    report,
    retrain,
    topics,
    train_command,
    verify_command,
)
from driftline.errors import CommandError

app = typer.Typer(
    name="driftline",
    help="Score customer events from Kafka exactly once, and see when the customers change.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"driftline {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command("demo")(demo.command)
app.command("demo-life")(demo_life.command)
app.command("broker")(broker.command)
app.command("train")(train_command.train)
app.command("generate")(train_command.generate)
app.add_typer(bundle_command.spec, name="spec")
app.command("bundle")(bundle_command.command)
app.command("evaluate")(evaluate.command)
app.command("retrain")(retrain.command)
app.command("promote")(promote.promote)
app.command("rollback")(promote.rollback)
app.command("rebaseline")(rebaseline.command)
app.command("keys")(keys.keys)
app.command("sign")(keys.sign)
app.command("predict")(predict.command)
app.command("produce", help=produce.HELP)(produce.command)
app.add_typer(topics.app, name="topics")
app.command("verify")(verify_command.command)
app.add_typer(dead_letters.app, name="dead-letters")
app.command("skip")(dead_letters.skip)
app.add_typer(alerts.app, name="alerts")
app.command("compare")(compare.command)
app.command("export")(export.command)
app.command("backtest")(backtest_command.command)
app.command("report")(report.command)
app.command("bench")(bench.command)


def main() -> None:
    """Run the command line of this process; expected errors are one line on standard error, never a traceback."""
    try:
        sys.exit(app(standalone_mode=False))
    except CommandError as error:
        reason, code = str(error), error.exit_code
    except TyperException as error:
        reason, code = error.format_message(), error.exit_code
    if reason:  # else it was the help that a bare `driftline` shows
        print(f"driftline: {' '.join(reason.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
