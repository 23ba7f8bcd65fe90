"""How the old programs read their command lines: flags that are not known are passed over, here with a word."""

import argparse
import logging
from difflib import get_close_matches

log = logging.getLogger("retrain")


def parser_of(program, description):
    """argparse with underlines in names, abbreviations and `--flag value` as well as `--flag=value`, as it was."""
    return argparse.ArgumentParser(program, description=description, formatter_class=_Formatter)


def graph_parser(program, description):
    """The same with the flags that name a graph."""
    parser = parser_of(program, description)
    parser.add_argument("--graph", help="A frozen graph; by default the model in tf_files, or the graph there.")
    parser.add_argument("--labels", help="Its labels; by default beside it.")
    return parser


def read(parser, argv):
    """Namespace of the arguments; those that are not known are named, with the flag that is nearest."""
    options, unknown = parser.parse_known_args(argv)
    known = [flag for action in parser._actions for flag in action.option_strings]
    for word in unknown:
        near = get_close_matches(word.partition("=")[0], known, n=1) if word.startswith("-") else []
        meant = f" Did you mean {near[0]}?" if near else ""
        log.warning("%s has no %s: it does nothing.%s", parser.prog, word, meant)
    return options


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows no default where there is none."""

    def _get_help_string(self, action):
        return action.help if action.default in ("", None, False) else super()._get_help_string(action)
