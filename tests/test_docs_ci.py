"""The workflows of docs/ci.md: least rights, nothing of a stranger in a script, options that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from mlx_velocity.cli import app
from mlx_velocity.report import markdown

TEXT = (Path(__file__).parents[1] / "docs" / "ci.md").read_text("utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
MEASURE, COMMENT = (yaml.safe_load(block) for block in BLOCKS)
# YAML 1.1 reads the word `on` as true.
ON = True


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    (job,) = workflow["jobs"].values()
    return list(job["steps"])


def step(workflow: dict[str, Any], words: str) -> dict[str, Any]:
    (found,) = [item for item in steps(workflow) if words in item.get("uses", "") + item.get("run", "")]
    return found


def test_the_workflow_that_runs_foreign_code_can_write_nothing() -> None:
    """What measures a pull request may read, and has no secret and no token left in a clone."""
    assert list(MEASURE[ON]) == ["pull_request"]
    assert MEASURE["permissions"] == {"contents": "read"}
    assert "secrets." not in BLOCKS[0]
    checkouts = [item for item in steps(MEASURE) if item.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == 2
    assert all(item["with"]["persist-credentials"] is False for item in checkouts)
    assert checkouts[0]["with"]["fetch-depth"] == 0
    (job,) = MEASURE["jobs"].values()
    assert job["runs-on"] == ["self-hosted", "macOS", "ARM64"]
    assert "permissions" not in job


def test_the_workflow_that_writes_runs_no_foreign_code() -> None:
    """What writes comments checks nothing out, runs no command, and may do nothing but that."""
    assert COMMENT[ON] == {"workflow_run": {"workflows": [MEASURE["name"]], "types": ["completed"]}}
    # Without actions: read, the artifact of another run can't be had.
    assert COMMENT["permissions"] == {"actions": "read", "pull-requests": "write"}
    assert "secrets." not in BLOCKS[1]
    assert all("run" not in item for item in steps(COMMENT))
    used = {item["uses"].partition("@")[0] for item in steps(COMMENT)}
    assert used == {"actions/download-artifact", "actions/github-script"}
    (job,) = COMMENT["jobs"].values()
    assert "permissions" not in job
    assert job["runs-on"] == "ubuntu-latest"


def test_the_number_and_the_commit_are_checked_before_anything_is_written() -> None:
    """A comment goes only to a pull request whose newest commit this run measured."""
    script = step(COMMENT, "github-script")["with"]["script"]
    number, commit, written = (
        script.index(words) for words in ("/^[1-9][0-9]{0,9}$/.test(number)", "head.sha !==", "Comment({")
    )
    assert number < commit < written
    assert "run.head_repository?.id" in script
    assert script.count("github-actions[bot]") == 1


def test_nothing_of_a_stranger_is_put_into_a_script() -> None:
    """Expressions stand in `env` and `with`, never inside a command, where they would be run."""
    for workflow in (MEASURE, COMMENT):
        for item in steps(workflow):
            assert "${{" not in item.get("run", "")
            assert "${{" not in item.get("with", {}).get("script", "")


def test_the_comment_is_found_by_the_marker() -> None:
    """The marker in the workflow is the one that the comment begins with."""
    assert f"const marker = '{markdown.MARKER}';" in step(COMMENT, "github-script")["with"]["script"]
    longest = int(re.findall(r"text\.length > (\d+)", BLOCKS[1])[0])
    assert markdown.LIMIT < longest <= 65_536


def test_actions_are_pinned_by_major_version() -> None:
    """Every action is GitHub's own, at a major version, the same one everywhere."""
    used = [item["uses"] for workflow in (MEASURE, COMMENT) for item in steps(workflow) if "uses" in item]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", name) for name in used)
    assert len({name.partition("@")[0] for name in used}) == len(set(used))


def test_the_second_workflow_takes_what_the_first_one_leaves() -> None:
    """Both name the same artifact and the same files."""
    uploaded = step(MEASURE, "upload-artifact")["with"]
    downloaded = step(COMMENT, "download-artifact")["with"]
    assert uploaded["name"] == downloaded["name"]
    command = step(MEASURE, " compare ")["run"]
    script = step(COMMENT, "github-script")["with"]["script"]
    for name in ("number", "comment.md"):
        assert f"../out/{name}" in command
        assert f"read('{name}')" in script


def test_the_command_has_every_option_that_it_is_given() -> None:
    """Each option in the workflow is one of `mlx-velocity compare`."""
    command: Any = typer.main.get_command(app)
    known = {option for item in command.commands["compare"].params for option in item.opts}
    written = step(MEASURE, " compare ")["run"]
    given = set(re.findall(r"(?<=\s)--[a-z-]+", written[written.index(" compare ") :]))
    assert given >= {"--merge-base", "--track", "--repo", "--json", "--markdown"}
    assert given <= known
    assert "doctor" in command.commands


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 130])
def test_every_exit_code_is_explained(code: int) -> None:
    """The page has a row for each way in which a comparison ends; 3 is no failure."""
    assert re.search(rf"^\| {code} \|", TEXT, re.MULTILINE)
    assert re.search(r"^ *3\) echo .*::notice::", BLOCKS[0], re.MULTILINE)
