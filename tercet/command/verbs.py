"""The verbs. Each imports the package that does the work when it is called, and prints the result."""

import json
import sys
from argparse import Namespace


def help(arguments: Namespace) -> int:
    """Prints the help of a verb that needs another verb after it."""
    arguments.parser.print_help()
    return 0


def demo(arguments: Namespace) -> int:
    from tercet.training.run import demo

    demo(arguments.out)
    return 0


def train(arguments: Namespace) -> int:
    from tercet.training.recipe import load_recipe

    config = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.dry_run:
        from tercet.command.plan import print_plan
        from tercet.training.preflight.checks import dry_run

        print_plan(*dry_run(config))
    else:
        from tercet.training.run import train

        train(config)
    return 0


def recipes_ls(arguments: Namespace) -> int:
    from tercet.configs.catalogue import recipe_names, summary

    if arguments.objectives:
        from tercet.models.losses.about import about
        from tercet.models.losses.objective import objective_names

        known = [about(name) for name in objective_names()]
        rows = [{"name": one.name, "summary": one.summary, "source": one.source} for one in known]
        call = "tercet recipes show --objective NAME  ·  objective=NAME in a recipe"
        return _listed(arguments, ("objective", "what it trains", "source"), rows, call)
    rows = [{"name": name, "summary": summary(name)} for name in recipe_names()]
    call = "tercet train RECIPE [key=value …]  ·  tercet recipes show RECIPE"
    return _listed(arguments, ("recipe", "one complete run"), rows, call)


def _listed(arguments: Namespace, heading: tuple[str, ...], rows: list[dict[str, str]], call: str) -> int:
    if arguments.json:
        print_json(rows)
    else:
        from tercet.command.listing import print_summaries

        print_summaries(heading, [tuple(row.values()) for row in rows], call)
    return 0


def tasks_ls(arguments: Namespace) -> int:
    from tercet.eval.task_files import summary, task_names

    if arguments.kinds:
        from tercet.eval.about_kind import about_kind, kind_names

        rows = [{"name": name, "summary": about_kind(name).summary} for name in kind_names()]
        call = "tercet tasks show --kind KIND  ·  kind: KIND in a task file"
        return _listed(arguments, ("kind", "what it measures"), rows, call)
    rows = [{"name": name, "summary": summary(name)} for name in task_names()]
    call = "tercet eval MODEL TASK …  ·  tercet tasks show TASK"
    return _listed(arguments, ("task", "what it measures"), rows, call)


def tasks_show(arguments: Namespace) -> int:
    if arguments.kind:
        from tercet.command.listing import print_about
        from tercet.eval.about_kind import about_kind

        print_about(about_kind(arguments.kind))
        return 0
    from tercet.configs.yaml_text import write_yaml
    from tercet.eval.load_tasks import load_task

    sys.stdout.write(write_yaml(load_task(arguments.task).model_dump(mode="json", exclude={"name"})))
    return 0


def recipes_show(arguments: Namespace) -> int:
    if arguments.objective:
        from tercet.command.listing import print_about
        from tercet.models.losses.about import about

        print_about(about(arguments.objective))
        return 0
    from tercet.command.orders import order_summaries
    from tercet.training.recipe import dump, load_recipe

    config = load_recipe(arguments.recipe, arguments.overrides)
    sys.stdout.write(dump(config))
    for name, source in config.data.train.items():
        for key, line in order_summaries(source):
            print(f"# data.train.{name}.{key}: {line}")
    return 0


def recipes_check(arguments: Namespace) -> int:
    """Checks every recipe before it exits, so that one call shows all mistakes."""
    from tercet.configs.catalogue import recipe_names
    from tercet.errors import UserError
    from tercet.models.encoder_names import check_known_name
    from tercet.training.config import check_steps
    from tercet.training.recipe import load_recipe

    wrong = 0
    for name in arguments.recipes or recipe_names():
        try:
            config = load_recipe(name, arguments.overrides)
            check_steps(config)
            for modality, tower in config.model.towers.items():
                if tower.encoder:
                    check_known_name(modality, tower.encoder)
            print(f"ok    {name}: {config.length} of {config.batch_size}")
        except UserError as error:
            wrong += 1
            print(f"wrong {name}: {error}")
    return 2 if wrong else 0


def bench(arguments: Namespace) -> int:
    from tercet.benchmarks.table import judge, load_bench, print_outcome

    options = [*arguments.rest, "--help"] if arguments.help else arguments.rest
    outcome = judge(arguments.bench, load_bench(arguments.bench)(options), options)
    print_json(outcome.to_json()) if arguments.json else print_outcome(outcome)
    return 1 if arguments.check and not outcome.holds else 0


def doctor(arguments: Namespace) -> int:
    from tercet.doctor import diagnose, healthy
    from tercet.doctor.show import print_findings

    findings = diagnose()
    if arguments.json:
        print_json({"healthy": healthy(findings), "findings": [finding.to_json() for finding in findings]})
    else:
        print_findings(findings)
    return 0 if healthy(findings) else 1


def print_json(value: object) -> None:
    print(json_text(value))


def json_text(value: object) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()  # names of files need not be UTF-8; JSON escapes alike
