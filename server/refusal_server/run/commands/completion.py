"""``refusal-server completion``: a script with which a shell completes commands and options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from refusal_server.settings import Settings

_ACTIONS = {
    "fleet": ("status",),
    "keys": ("new", "list", "revoke"),
    "policy": ("init", "check", "schema"),
}
_BASH = """\
_refusal_server() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}"
  if [[ $COMP_CWORD == 1 && $word != -* ]]; then
    COMPREPLY=($(compgen -W "{commands}" -- "$word"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "{options}" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _refusal_server refusal-server
"""
_ZSH = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n"
_FISH = """\
complete -c refusal-server -n __fish_use_subcommand -a "{commands}"
{cases}
{options}
"""


def run(arguments: Sequence[str]) -> int:
    """Print the script for a shell; ``eval`` or ``source`` it in the shell's own start file."""
    parser = argparse.ArgumentParser("refusal-server completion", description=run.__doc__)
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="whose script it is")
    shell = parser.parse_args(arguments).shell
    # Here, not above: it is one of these commands itself.
    from refusal_server.run.commands import COMMANDS

    options = [f"--{name.replace('_', '-')}" for name in Settings.model_fields]
    options = sorted({*options, "--help", "--version"} - {"--engine-args"})
    if shell == "fish":
        sys.stdout.write(_fish([*COMMANDS], options))
    else:
        sys.stdout.write((_ZSH if shell == "zsh" else "") + _bash([*COMMANDS], options))
    return 0


def _bash(commands: list[str], options: list[str]) -> str:
    cases = "\n".join(
        f'    {name}) [[ $COMP_CWORD == 2 ]] && COMPREPLY=($(compgen -W "{" ".join(actions)}" '
        '-- "$word")) && return ;;'
        for name, actions in _ACTIONS.items()
    )
    return _BASH.format(commands=" ".join(commands), cases=cases, options=" ".join(options))


def _fish(commands: list[str], options: list[str]) -> str:
    cases = "\n".join(
        f'complete -c refusal-server -n "__fish_seen_subcommand_from {name}" -a "{" ".join(acts)}"'
        for name, acts in _ACTIONS.items()
    )
    flags = "\n".join(f"complete -c refusal-server -l {option[2:]}" for option in options)
    return _FISH.format(commands=" ".join(commands), cases=cases, options=flags)
