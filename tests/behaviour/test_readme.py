"""Every command of the README works after `make serve`, in a fresh environment."""

from __future__ import annotations

import pytest

from tests.behaviour.readme import README, UNKNOWN, WAYS, Command, Site, commands, run, targets
from tests.needs import ROOT

COMMANDS = commands(README)


@pytest.mark.engine
@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_every_command_does_what_its_way_asks(site: Site, command: Command) -> None:
    run(site, command)


def test_every_command_has_a_way_and_the_quickstart_really_runs() -> None:
    ways = [command.way for command in COMMANDS]
    assert UNKNOWN not in ways, [c.text for c in COMMANDS if c.way == UNKNOWN]
    assert {"served", "run"} <= set(ways) <= set(WAYS)


def test_every_target_that_the_readme_names_is_there() -> None:
    named = targets(README)
    assert {"serve", "test", "check"} <= set(named)
    known = targets_of_the_makefile()
    assert set(named) <= known, set(named) - known


def targets_of_the_makefile() -> set[str]:
    lines = (ROOT / "Makefile").read_text().splitlines()
    return {line.split(":")[1].strip() for line in lines if line.startswith(".PHONY:")}


TEXT = """
```sh
one
```

```python
no_command()
```

```sh
# a remark
two \\
  three

four 'a
b' && five
```
"""


def test_commands_are_found_whole_with_their_lines() -> None:
    assert [(command.line, command.text) for command in commands(TEXT)] == [
        (3, "one"),
        (12, "two \\\n  three"),
        (15, "four 'a\nb' && five"),
    ]


def test_a_block_that_ends_inside_a_quotation_is_an_error() -> None:
    with pytest.raises(ValueError, match="ends inside a command"):
        commands("```sh\necho 'a\n```\n")


def test_a_command_that_no_way_fits_fails(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    (command,) = commands("```sh\nrm -r everything\n```\n")
    with pytest.raises(AssertionError, match="add a way"):
        run(Site(folder, 1, folder), command)
