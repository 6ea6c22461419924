"""`nas compare`: networks side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import Interpolate, Json, Latency
from nas.cli.output import print_json, print_rich, quantity, show_warnings, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latency import Conditions, Predictor
    from nas.comparing import Compared

_DASH = "–"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(compare)


def compare(
    context: typer.Context,
    arch: Annotated[
        list[str],
        typer.Argument(metavar="ARCH…", help="Files, runs, RUN/ARCH_ID, references, timm:NAME or torchvision:NAME."),
    ],
    latency: Latency = "",
    interpolate: Interpolate = False,
    measure: Annotated[bool, typer.Option("--measure", help="Time them here, interleaved.")] = False,
    runtime: Annotated[str | None, typer.Option(help="torch or onnxruntime. [default: torch]")] = None,
    device: Annotated[str | None, typer.Option(help="To time on: cpu, cuda, cuda:N. [default: cpu]")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of one inference. [default: 1]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16. [default: float32]")] = None,
    batch: Annotated[int | None, typer.Option(help="Images of one inference. [default: 1]")] = None,
    memory_format: Annotated[
        str | None, typer.Option(help="contiguous or channels_last. [default: contiguous]")
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Train all by one recipe and compare scores.")] = False,
    data: Annotated[
        str, typer.Option(help="digits, fashion-mnist, cifar10, cifar100, npz:FILE or imagefolder:DIR.")
    ] = "digits",
    data_root: Annotated[str, typer.Option(help="Where torchvision's data sets lie or are downloaded to.")] = "data",
    proxy: Annotated[
        str, typer.Option(help="How thoroughly they are trained: quick, standard, thorough or a recipe's .yaml.")
    ] = "auto",
    train_device: Annotated[str, typer.Option(help="To train on: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the training.")] = 0,
    json: Json = False,
) -> None:
    """Compare networks: counted cost, predicted and measured latency, score under one recipe."""
    from nas.architectures import resolve_network
    from nas.cli.options import refuse_without, table_predictor
    from nas.cli.progress import show_steps
    from nas.comparing import compare as run_compare
    from search_space.rules import Integer

    asked = {
        "runtime": runtime,
        "device": device,
        "threads": threads,
        "dtype": dtype,
        "batch": batch,
        "memory_format": memory_format,
    }
    if not train:
        refuse_without("--train", context, "data", "data_root", "proxy", "train_device", "seed")
    seed = Integer(0, 2**63 - 1).check("--seed", seed)
    predictor = table_predictor(latency, interpolate)
    conditions = _conditions(measure, predictor, {name: value for name, value in asked.items() if value is not None})
    networks = [resolve_network(one) for one in arch]
    with show_warnings():
        evaluator = _evaluator(data, data_root, proxy, train_device) if train else None
        compared = run_compare(
            networks,
            predictor=predictor,
            conditions=conditions,
            evaluator=evaluator,
            seed=seed,
            show_steps=show_steps,
        )
    if json:
        _print_json(compared, predictor, conditions, evaluator)
    else:
        _print(compared, predictor, conditions, evaluator)


def _conditions(measure: bool, predictor: Predictor | None, asked: dict[str, Any]) -> Conditions | None:
    """Those of the table, if there is one, so that prediction and measurement can be compared."""
    from latency import conditions_here
    from latency.runtimes import same_here
    from search_space import InputError

    option = f"--{next(iter(asked), '').replace('_', '-')}"
    if asked and not measure:
        raise InputError(f"{option} says how to time", next(iter(asked.values())), remedy="add --measure")
    if not measure:
        return None
    if predictor is None:
        return conditions_here(**asked)
    if asked:
        rule = f"with a latency table networks are timed as its were; {option} would change that"
        raise InputError(rule, next(iter(asked.values())), remedy=f"leave out {option} or --latency")
    return same_here(predictor.table.conditions)


def _evaluator(data: str, data_root: str, proxy: str, device: str) -> Any:
    from evaluators import ProxyTraining, find_recipe, load_images
    from evaluators.device import choose_device
    from nas.cli.progress import show_steps_in_turn

    with show_steps_in_turn("reading images") as (on_read,):
        images = load_images(data, root=data_root, on_progress=on_read)
        recipe = find_recipe(proxy, images, choose_device(device))
        return ProxyTraining(images, recipe, device=device)


def _print_json(compared: Sequence[Compared], predictor: Any, conditions: Any, evaluator: Any) -> None:
    from nas.comparing import better

    ahead = better(compared)
    names = [one.network.name for one in compared]
    rows = [
        {**one.to_dict(), "better_at_no_more_latency": [names[j] for j in ahead.get(i, [])]}
        for i, one in enumerate(compared)
    ]
    table_conditions = predictor.table.conditions.to_dict() if predictor is not None else None
    print_json(
        {
            "networks": rows,
            "table_conditions": table_conditions,
            "measured_conditions": conditions.to_dict() if conditions is not None else None,
            "training": evaluator.describe() if evaluator is not None else None,
        }
    )


def _print(compared: Sequence[Compared], predictor: Any, conditions: Any, evaluator: Any) -> None:
    from nas.comparing import better

    columns = ["network", "px", "params", "macs", "activations", "memory MB"]
    columns += ["predicted ms"] if predictor is not None else []
    columns += ["measured ms"] if conditions is not None else []
    columns += ["accuracy", "loss"] if evaluator is not None else []
    listing = table(*columns)
    for one in compared:
        row = [one.network.name, str(one.network.resolution), quantity(one.cost.params)]
        row.append(quantity(one.cost.macs) + (" +" if one.cost.unseen else ""))
        row += [quantity(one.cost.activations), f"{one.cost.memory_mb:.3g}"]
        row += [_number(one.latency_ms)] if predictor is not None else []
        row += [_number(one.measured_ms)] if conditions is not None else []
        row += [_number(one.scores.get(name)) for name in ("accuracy", "loss")] if evaluator is not None else []
        listing.add_row(*row)
    print_rich(listing)
    if conditions is not None:
        print_rich(f"measured: {conditions}; 10th percentile, one session, interleaved")
    elif predictor is not None:
        print_rich(f"predicted: {predictor.table.conditions}")
    if evaluator is not None:
        recipe = evaluator.recipe
        seeds = "one seed" if recipe.trainings == 1 else f"{recipe.trainings} seeds"
        print_rich(
            f"trained: {evaluator.data.name}, {recipe.resolution_px} px, {recipe.epochs} epochs of "
            f"{min(recipe.max_train_images, len(evaluator.data.splits['train'])):,} images, {seeds}"
        )
    for one in compared:
        for note in one.notes:
            print_rich(f"{one.network.name}: {note}")
        if one.cost.unseen:
            print_rich(f"{one.network.name}: macs lack those of {', '.join(sorted(one.cost.unseen))}")
    for worse, others in better(compared).items():
        named = ", ".join(compared[other].network.name for other in others)
        print_rich(f"better than {compared[worse].network.name} at no more latency: {named}")


def _number(value: float | None) -> str:
    return _DASH if value is None else f"{value:.4g}"
