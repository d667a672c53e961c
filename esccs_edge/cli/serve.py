"""``esccs-edge serve``: a bundle as a service over HTTP."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from .model_options import ModelOptions, model_options
from .shell import CommandResult, command


@command(
    "serve",
    help="""
    Answer pairs and map scenes over HTTP.

    Classifies or segments what is uploaded, as is the task of the bundle; / is a page for people.
    There is no authentication and no encryption: put a proxy in front of it, or keep it on this
    machine. SIGTERM lets it finish what it has begun. docs/service.md has the addresses and limits.
    """,
    example="""
    esccs-edge serve
    esccs-edge serve --bundle runs/first/bundle --port 8080 --limit deadline_ms=500
    """,
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port; 0 takes one that is free.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST",
    help="Host name under which it may be asked; may be repeated  [of this machine alone on "
    "127.0.0.1, else any].",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Another limit than the default, such as pair_mb=4; may be repeated.",
)
@model_options
def run(
    host: str,
    port: int,
    names: tuple[str, ...],
    limits: tuple[str, ...],
    model: ModelOptions,
) -> CommandResult:
    from ..serve.limits import Limits
    from ..serve.server import listen, serve
    from ..serve.service import Service

    asked, opened = Limits(**_numbers(limits)), model.open_bundle()
    manifest = model.as_stored(opened.manifest)
    with closing(listen(host, port)) as listener:
        runtime: Any = model.open_model(opened, manifest, queue_size=int(asked.queue))
        with closing(runtime):
            runtime.warmup()
            service = Service(runtime, opened, asked)
            serve(service, listener, names=names, started=_announce)
    stats = runtime.stats()
    text = f"{stats.completed} pairs answered, {stats.failed} failed, {stats.rejected} refused"
    return CommandResult(stats.to_dict(), text)


def _announce(address: str) -> None:
    click.echo(f"listening at {address}", err=True)


def _numbers(limits: tuple[str, ...]) -> dict[str, Any]:
    from dataclasses import fields

    from ..serve.limits import Limits

    defaults: dict[str, Any] = {field.name: field.default for field in fields(Limits)}
    found = {}
    for text in limits:
        name, _, number = text.partition("=")
        if name not in defaults:
            raise click.BadParameter(
                f"{name!r} is given, expected one of {', '.join(defaults)}", param_hint="--limit"
            )
        try:
            found[name] = type(defaults[name])(number)
        except ValueError:
            raise click.BadParameter(
                f"{text!r} is given, expected {name}=NUMBER", param_hint="--limit"
            ) from None
    return found
