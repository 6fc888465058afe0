"""Write the completion scripts from the parser itself, and answer what they ask."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from aligner.cli.shared.index import commands, parser_for
from aligner.cli.shared.recipes import host_for
from aligner.errors import AlignerError
from aligner.recipe import read_recipe

_KINDS = {
    "RUN": "runs",
    "STAGE": "stages",
    "STEP": "steps",
    "PLUGIN": "plugins",
    "PLUGIN,…": "plugins",
}
"""What the words are that a parser calls by these names; any other word is taken for a file."""


@dataclass(frozen=True)
class _Option:
    words: tuple[str, ...]
    takes_value: bool
    help: str
    kind: str
    """Of what its value is one: `steps`, `runs`, …; or nothing."""


@dataclass(frozen=True)
class _Command:
    name: str
    help: str
    options: tuple[_Option, ...]
    choices: tuple[str, ...]
    """What the first word may be, where the parser says."""
    kind: str
    """Of what the first word is one."""


def words(kind: str, of: str) -> list[str]:
    """The stages, plugins or runs there are, or the steps of the recipe or run `of`.

    None on any error: there is nobody to tell.
    """
    try:
        if kind == "plugins":
            return sorted(entry.name for entry in entry_points(group="aligner"))
        if kind == "runs":
            return sorted(path.parent.name for path in Path("runs").glob("*/recipe.yaml"))
        if kind == "steps":
            recipe = Path(of) if Path(of).is_file() else Path("runs", of, "recipe.yaml")
            return [step.name for step in read_recipe(recipe).steps]
        return sorted(host_for(argparse.Namespace(no_plugin=[], only_plugins=None)).stages())
    except (AlignerError, OSError):
        return []


def script(shell: str) -> str:
    """The completion script for `shell`."""
    described = list(_described())
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](described)


def _described() -> Iterator[_Command]:
    parser = parser_for(commands())
    (below,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    helps = {action.dest: action.help or "" for action in below._choices_actions}
    for name, one in below.choices.items():
        options: list[_Option] = []
        choices, kinds = list[str](), list[str]()
        for action in one._actions:
            if action.help == argparse.SUPPRESS:
                continue
            kind = _KINDS.get(str(action.metavar), "")
            if action.option_strings:
                words = tuple(action.option_strings)
                options.append(_Option(words, action.nargs != 0, _plain(action.help), kind))
            else:
                choices += map(str, action.choices or ())
                kinds.append(kind)
        first = kinds[0] if kinds else ""
        yield _Command(name, _plain(helps.get(name)), tuple(options), tuple(choices), first)


def _plain(text: str | None) -> str:
    """`text` without what any of the shells would read as its own."""
    text = (text or "").replace("'", "’").replace(": ", " – ")
    return re.sub(r"[][\"`:$\\]", "", text)


def _bash(described: Sequence[_Command]) -> str:
    options = [option for one in described for option in one.options]
    valued = sorted({word for option in options if option.takes_value for word in option.words})
    asked = sorted(
        {(word, option.kind) for option in options if option.kind for word in option.words}
    )
    cases = [
        f"    {one.name}) options='{' '.join(w for o in one.options for w in o.words)}'"
        f" choices='{' '.join(one.choices)}' first='{one.kind}' ;;"
        for one in described
    ]
    filled = {
        "NAMES": " ".join(one.name for one in described),
        "COMMANDS": "\n".join(cases),
        "VALUED": "|".join(valued),
        "ASKED": "\n".join(f"    {word}) kind={kind} ;;" for word, kind in asked),
    }
    return _fill(_BASH, filled)


def _zsh(described: Sequence[_Command]) -> str:
    cases = []
    for one in described:
        specs = [f"'*{word}[{o.help}]{_zsh_value(o)}'" for o in one.options for word in o.words]
        first = f"_aligner_words {one.kind}" if one.kind else "_files"
        first = f"({' '.join(one.choices)})" if one.choices else first
        specs.append(f"'*:word:{first}'")
        cases.append(" \\\n        ".join([f"    {one.name})\n      _arguments", *specs]) + " ;;")
    names = [f"    '{one.name}:{one.help}'" for one in described]
    return _fill(_ZSH, {"NAMES": "\n".join(names), "COMMANDS": "\n".join(cases)})


def _zsh_value(option: _Option) -> str:
    if not option.takes_value:
        return ""
    return f":value:_aligner_words {option.kind}" if option.kind else ":value:_files"


def _fish(described: Sequence[_Command]) -> str:
    lines = []
    for one in described:
        lines.append(f"complete -c aligner -n __fish_use_subcommand -fa {one.name} -d '{one.help}'")
        here = f"complete -c aligner -n '__fish_seen_subcommand_from {one.name}'"
        if one.choices or one.kind:
            found = " ".join(one.choices) or f"(__aligner_words {one.kind})"
            lines.append(f"{here} -fa '{found}'")
        for option in one.options:
            value = " -r" if option.takes_value else ""
            value = f" -xa '(__aligner_words {option.kind})'" if option.kind else value
            names = " ".join(
                f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}"
                for word in option.words
            )
            lines.append(f"{here} {names}{value} -d '{option.help}'")
    return _fill(_FISH, {"COMMANDS": "\n".join(lines)})


def _fill(template: str, parts: Mapping[str, str]) -> str:
    for name, part in parts.items():
        template = template.replace(f"@{name}@", part)
    return template


_BASH = """\
# bash completion for aligner, written by `aligner completion bash`
_aligner() {
  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" i
  local options='' choices='' first='' kind='' given=''
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W '@NAMES@ --help --version' -- "$word"))
    return
  fi
  case "${COMP_WORDS[1]}" in
@COMMANDS@
  esac
  for ((i = 2; i < COMP_CWORD; i++)); do
    case "${COMP_WORDS[i]}" in
      -*) continue ;;
    esac
    case "${COMP_WORDS[i-1]}" in
      @VALUED@) ;;
      *) given="${given:-${COMP_WORDS[i]}}" ;;
    esac
  done
  case "$before" in
@ASKED@
    @VALUED@) options='' choices='' first='' ;;
    *) [[ -z $given && $word != -* ]] && kind="$first" ;;
  esac
  if [[ -n $kind ]]; then
    choices="$(aligner completion bash --words "$kind" --of "$given" 2>/dev/null)"
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
  elif [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  elif [[ -z $given && -n $choices ]]; then
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
  else
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}
complete -F _aligner aligner
"""

_ZSH = """\
#compdef aligner
# zsh completion for aligner, written by `aligner completion zsh`
_aligner_words() {
  local given=''
  [[ $1 == steps ]] && given="${words[(r)*.y(a|)ml]:-$words[2]}"
  compadd -- ${(f)"$(aligner completion zsh --words $1 --of "$given" 2>/dev/null)"}
}
_aligner() {
  local -a known=(
@NAMES@
  )
  if (( CURRENT == 2 )); then
    _describe command known
    return
  fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
@COMMANDS@
  esac
}
if [[ $funcstack[1] == _aligner ]]; then _aligner "$@"; else compdef _aligner aligner; fi
"""

_FISH = """\
# fish completion for aligner, written by `aligner completion fish`
function __aligner_words
    set -l typed (commandline -opc)
    set -l given (string match -r '\\S+\\.ya?ml' -- $typed) $typed[3]
    aligner completion fish --words $argv[1] --of "$given[1]" 2>/dev/null
end
@COMMANDS@
"""
