"""What the documents and the wrappers say of the commands is so."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from retrain.cli import COMMANDS, cli
from retrain.options import QUALITIES
from retrain.sources import SOURCES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def options_with_a_value(name):
    parameters = cli.get_command(None, name).params
    return {
        flag for option in parameters if isinstance(option, click.Option) and not option.is_flag for flag in option.opts
    }


@pytest.mark.parametrize("page", ["docs/commands.md", "ARCHITECTURE.md"])
def test_page_is_what_make_docs_would_write(page):
    check = subprocess.run([sys.executable, "-m", "cogapp", "--check", page], cwd=ROOT, capture_output=True, text=True)
    assert check.returncode == 0, f"{check.stdout}{check.stderr}\nmake docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_in_the_readme(name):
    assert f"`retrain {name}" in README


def test_make_targets_in_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert set(re.findall(r"(?:^ {4}|`)(?:\S+ )?make ([a-z-]+)", README, re.MULTILINE)) <= targets


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_link_in_the_readme_leads_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize("quality", ["fast", "good"])  # best is what training makes of good
def test_preset_is_chosen_from_the_frontier(quality):
    table = (ROOT / "docs/frontier.md").read_text(encoding="utf-8")
    assert f"| {QUALITIES[quality].replace('efficientnet-', '')} **{quality}** |" in table


def test_wrappers_know_every_option_that_takes_a_value():
    known = re.search(r"^ *(-.*)\) ;;$", (ROOT / "scripts/lib.sh").read_text(encoding="utf-8"), re.MULTILINE)
    wrapped = set.union(*map(options_with_a_value, COMMANDS))
    assert set(known[1].split(" | ")) == wrapped


def test_commands_in_the_readme_run(tmp_path):
    for seed, part in enumerate(["photos/train", "photos/test", "holiday"]):
        run_retrain(tmp_path, "sample", part, "--per-class", "20", "--seed", str(seed))
    shutil.copy(next((tmp_path / "holiday").glob("*/*")), tmp_path / "picture.jpg")
    commands = re.findall(r"\| `retrain ([^`]+)` \|$", README, re.MULTILINE)
    assert len(commands) == len(COMMANDS) + 5  # train, clean and export are there twice, sort three times
    for command in commands:
        # sample would overwrite, and refuses; crawl and learn need the network; serve and --watch go on for ever.
        if command != "sample photos" and not re.match("crawl |learn |serve|.*--watch", command):
            run_retrain(tmp_path, *shlex.split(command))


def test_containers_get_the_addresses_and_keys_of_every_source():
    passed = re.search(r"for name in ([A-Z ]+); do\n.*RETRAIN_\$", (ROOT / "scripts/container.sh").read_text("utf-8"))
    assert {name.lower() for name in passed[1].split()} == set(SOURCES)


def run_retrain(folder, *arguments):
    program = Path(sys.executable).with_name("retrain")
    environment = {**os.environ, "TF_FILES": str(folder / "tf_files")}
    subprocess.run([program, *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL, check=True)
