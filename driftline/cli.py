"""The ``driftline`` command: registers the commands of this folder, and ends every run with one exit code.

0 done; 1 the answer is no, or something failed on the way; 2 wrong use or configuration; 3 not enough data;
130 ended by Ctrl-C.
"""

import logging
import signal
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from driftline import __version__, terminal
from driftline.commands import (
    alerts,
    backtest,
    bench,
    broker,
    dead_letters,
    demo,
    demo_life,
    drift_worker,
    examples,
    export,
    predict,
    produce,
    report,
    scorer,
    topics,
    validate,
    verify,
)
from driftline.commands.model import bundle, compare, evaluate, keys, promote, rebaseline, retrain, train
from driftline.errors import CommandError

app = typer.Typer(
    name="driftline",
    help="Score customer events from Kafka exactly once, and see when the customers change.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        terminal.show(f"driftline {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback ends the process
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    # The one line of the error replaces what the library logs many times a second; a service logs it, within bounds.
    if context.invoked_subcommand not in {"scorer", "drift-worker"}:
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


app.command("scorer")(scorer.command)
app.command("drift-worker")(drift_worker.command)
app.command("demo")(demo.command)
app.command("demo-life")(demo_life.command)
app.command("examples")(examples.command)
app.command("broker")(broker.command)
app.command("train")(train.train)
app.command("generate")(train.generate)
app.add_typer(bundle.spec, name="spec")
app.command("bundle")(bundle.command)
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
app.command("validate")(validate.command)
app.command("verify")(verify.command)
app.add_typer(dead_letters.app, name="dead-letters")
app.command("skip")(dead_letters.skip)
app.add_typer(alerts.app, name="alerts")
app.command("compare")(compare.command)
app.command("export")(export.command)
app.command("backtest")(backtest.command)
app.command("report")(report.command)
app.command("bench")(bench.command)


def main() -> None:
    """Run the command line of this process; expected errors are one line on standard error, never a traceback."""
    # A shell without job control starts background jobs with SIGINT ignored, and Python then leaves it so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(app(standalone_mode=False))
    except CommandError as error:
        reason, code = str(error), error.exit_code
    except TyperException as error:
        reason, code = error.format_message(), error.exit_code
    if reason:  # else it was the help that a bare `driftline` shows
        terminal.note(f"driftline: {terminal.one_line(reason)}")
    sys.exit(code)


if __name__ == "__main__":
    main()
