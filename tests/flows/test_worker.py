"""A team's server, a worker in another folder, a bare origin, a DVC remote: schedules fire, results arrive, nothing is lost.

The commands are those of docs/how-to/schedule.md, which is followed to the letter, addresses aside.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from repository import GRAPH, ITEMS, build, environment, family, journal, reproduce, started, until
from test_how_to import git

from tasks.engine.server import answers
from tests.pages import blocks

ROOT = Path(__file__).resolve().parents[2]
ALL = sorted(f"{name} {i}" for name in GRAPH for i in range(ITEMS))
IDENTITY = {f"GIT_{who}_{what}": f"{who}@a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
OVER = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Team:
    """One person's clone, the origin, the remote, the server and the worker's folders."""

    folder: Path
    origin: Path
    home: Path
    url: str
    variables: dict[str, str]

    def computed(self) -> list[str]:
        """What the steps computed on the worker up to now."""
        path = self.home / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def forget(self) -> list[str]:
        """The same, in order of names; the next call begins anew."""
        lines = sorted(self.computed())
        (self.home / "journal").unlink(missing_ok=True)
        return lines

    def ran(self, script: str, folder: Path | None = None) -> str:
        """What a block of the page prints, on this team's server."""
        script = script.replace("http://127.0.0.1:4200/api", self.url)
        done = subprocess.run(
            ["bash", "-ec", script], cwd=folder or self.folder, env=environment(**self.variables), capture_output=True, text=True,
            timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ask(self, path: str, body: dict | list | None = None, method: str = "") -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/{path}", data, headers, method=method or None)
        for _ in range(10):
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    return json.loads(reply.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code != 503:  # SQLite is busy
                    raise
            except TimeoutError:
                pass
            time.sleep(1)
        raise AssertionError(f"the server stayed busy: {path}")

    def deployment(self) -> dict[str, Any]:
        return self.ask("deployments/name/reproduce/results")

    def begin(self, seed: int, profile: str = "smoke") -> str:
        """Start a run as the form of the UI does."""
        parameters = {"profile": profile, "overrides": [f"complete.seed={seed}"]}
        return self.ask(f"deployments/{self.deployment()['id']}/create_flow_run", {"parameters": parameters})["id"]

    def state(self, run: str) -> str:
        return self.ask(f"flow_runs/{run}")["state_type"]

    def end(self, run: str, seconds: float = 150) -> str:
        until(lambda: self.state(run) in OVER, seconds)
        return self.state(run)

    def log(self, run: str) -> str:
        lines = self.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"})
        return "\n".join(line["message"] for line in lines)

    def branches(self) -> list[str]:
        return git(self.origin, "for-each-ref", "--format=%(refname:short)", "refs/heads/psr").split()


def page(beginning: str) -> str:
    """The console block of docs/how-to/schedule.md that has a line with this beginning."""
    (text,) = [one.text for one in blocks("schedule.md") if re.search(f"^{beginning}", one.text, re.MULTILINE)]
    return text


def command(path: Path, *words: str) -> None:
    subprocess.run([sys.executable, "-m", *words], cwd=path, env=environment(), check=True, capture_output=True)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    home = tmp_path_factory.mktemp("team")
    folder, origin = build(home / "repository"), home / "origin.git"
    for name in ("prefect.yaml", ".dvc/.gitignore"):
        (folder / name).write_text((ROOT / name).read_text())
    command(folder, "dvc", "remote", "add", "-q", "-d", "team", str(home / "remote"))
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "before")
    git(home, "clone", "-q", "--bare", str(folder), str(origin))
    git(folder, "remote", "add", "origin", str(origin))
    with socket.create_server(("127.0.0.1", 0)) as port:
        number = port.getsockname()[1]
    url = f"http://127.0.0.1:{number}/api"
    variables = {
        "PREFECT_HOME": str(home / "prefect"), "PREFECT_API_URL": url, "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_CLI_PROMPT": "false",
    }  # fmt: skip
    worker = {
        **variables, "PSR_WORKER_HOME": str(home / "kept"), "PSR_TEST_JOURNAL": str(home / "journal"), "PSR_TEST_SLOW": "0.5"
    }  # fmt: skip
    with ExitStack() as stack:
        (home / "server").mkdir()
        stack.enter_context(
            started(
                home / "server",
                *page("prefect server").split()[1:],
                "--port",
                str(number),
                module="prefect",
                log=home / "server.log",
                **variables,
            )
        )
        until(lambda: answers(url), 300)
        made = Team(folder, origin, home, url, variables)
        made.ran(page("prefect --no-prompt deploy"))
        (home / "elsewhere").mkdir()
        words = page("prefect worker").splitlines()[-1].split()[1:]
        stack.enter_context(started(home / "elsewhere", *words, module="prefect", log=home / "worker.log", **worker))
        yield made


def test_the_form_offers_the_profiles_and_the_server_refuses_others(team):
    found = team.deployment()
    fields = found["parameter_openapi_schema"]["properties"]
    assert "smoke" in fields["profile"]["enum"]
    assert fields["profile"]["default"] == "quick"
    assert (fields["overrides"]["type"], fields["overrides"]["items"]) == ("array", {"type": "string"})
    assert found["global_concurrency_limit"]["limit"] == 1
    with pytest.raises(urllib.error.HTTPError, match="409"):
        team.begin(1, profile="nobody's")


def test_deploying_again_leaves_the_schedule_as_people_left_it(team):
    (nightly,) = team.deployment()["schedules"]
    assert (nightly["active"], nightly["schedule"]["cron"]) == (True, "0 3 * * *")
    for active in (False, True):
        team.ask(f"deployments/{team.deployment()['id']}/schedules/{nightly['id']}", {"active": active}, method="PATCH")
        team.ran("prefect --no-prompt deploy --all")
        (found,) = team.deployment()["schedules"]
        assert (found["id"], found["active"]) == (nightly["id"], active)


def test_what_a_worker_computes_arrives_and_is_computed_once(team):
    run = team.begin(seed=21)
    assert team.end(run) == "COMPLETED", team.log(run)
    assert team.forget() == ALL
    (branch,) = team.branches()
    until(lambda: f"handed back to the origin as branch {branch}" in team.log(run))
    mine = team.home / "mine"
    git(team.home, "clone", "-q", str(team.origin), str(mine))
    team.ran(page("git pull").replace("BRANCH", branch), mine)
    done = reproduce(mine, "--set", "complete.seed=21")
    assert "Nothing to do" in done.stdout, done.stdout + done.stderr
    again = team.begin(seed=21)
    assert team.end(again) == "COMPLETED"
    assert team.forget() == []


def test_a_run_that_is_cancelled_ends_in_seconds_and_the_next_goes_on(team):
    run = team.begin(seed=22)
    until(lambda: "left 0" in team.computed(), 200)
    assert (
        team.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})["status"]
        == "ACCEPT"
    )
    began = time.monotonic()
    assert team.end(run, 40) == "CANCELLED", team.log(run)
    assert time.monotonic() - began < 30
    first = team.forget()
    assert set(first) < set(ALL)
    assert any(run[-8:] in branch for branch in team.branches())
    assert team.end(team.begin(seed=22)) == "COMPLETED"
    assert sorted(first + team.forget()) == ALL


def test_the_page_starts_a_run_and_shows_and_stops_the_schedule(team):
    run = page("prefect deployment run").replace("full", "smoke").replace("distill.epochs=6", "complete.seed=21")
    assert "Created flow run" in team.ran(run)
    (nightly,) = team.deployment()["schedules"]
    team.ran(page("prefect deployment schedule").replace(" ID", f" {nightly['id']}"))
    assert team.deployment()["schedules"][0]["active"] is False


def test_a_schedule_fires(team):
    path = f"deployments/{team.deployment()['id']}/schedules"
    (added,) = team.ask(path, [{"schedule": {"interval": 20}, "slug": "soon"}])
    due = {"flow_runs": {"deployment_id": {"any_": [team.deployment()["id"]]}, "state": {"type": {"any_": ["RUNNING", "COMPLETED"]}},
                         "tags": {"all_": ["auto-scheduled"]}}}  # fmt: skip
    until(lambda: team.ask("flow_runs/filter", due) != [], 120)
    team.ask(f"{path}/{added['id']}", method="DELETE")
    run = team.ask("flow_runs/filter", due)[0]
    assert team.end(run["id"]) == "COMPLETED"


def test_an_origin_that_takes_no_branch_leaves_a_patch(team):
    hook = team.origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho nobody may push >&2\nexit 1\n")
    hook.chmod(0o755)
    try:
        run = team.begin(seed=23)
        assert team.end(run) == "COMPLETED", team.log(run)
    finally:
        hook.unlink()
    until(lambda: "the origin does not take branch" in team.log(run))
    (patch,) = team.ask(
        "artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}, "type": {"any_": ["markdown"]}}}
    )
    text = patch["data"].partition("````diff\n")[2].rpartition("\n````")[0]
    theirs = team.home / "theirs"
    git(team.home, "clone", "-q", str(team.origin), str(theirs))
    subprocess.run(["git", "am", "-q"], cwd=theirs, input=text, text=True, check=True, env=environment(**IDENTITY))
    command(theirs, "dvc", "pull", "-q", "--allow-missing")
    assert "Nothing to do" in reproduce(theirs, "--set", "complete.seed=23").stdout


def test_a_remote_that_takes_nothing_is_one_line_and_loses_nothing(team):
    team.forget()
    remote = team.home / "remote"
    remote.rename(team.home / "away")
    remote.write_text("no folder")
    run = team.begin(seed=24)
    assert team.end(run) == "FAILED"
    first = team.forget()
    remote.unlink()
    (team.home / "away").rename(remote)
    assert re.search("the remote (failed|does not take)", team.ask(f"flow_runs/{run}")["state"]["message"])
    assert team.end(team.begin(seed=24)) == "COMPLETED"
    assert sorted(first + team.forget()) == ALL


def test_kill_9_of_a_run_is_known_to_the_server_and_loses_nothing(team):
    team.forget()
    run = team.begin(seed=25)
    until(lambda: "left 1" in team.computed(), 200)
    os.kill(_engine(run), signal.SIGKILL)
    assert team.end(run, 60) == "CRASHED"
    first = team.forget()
    assert team.end(team.begin(seed=25)) == "COMPLETED"
    assert sorted(first + team.forget()) == ALL


@pytest.mark.parametrize(("stop", "state"), [("cancel", "CANCELLED"), ("SIGTERM", "CRASHED")])
def test_a_persons_run_on_the_teams_server_is_stopped_and_known_to_it(team, tmp_path, stop, state):
    mine = build(tmp_path / "mine")
    with started(mine, "--profile", "smoke", PSR_TEST_SLOW="0.7", **team.variables) as process:
        until(lambda: "make 1" in journal(mine), 200)
        running = {"state": {"type": {"any_": ["RUNNING"]}}, "parent_task_run_id": {"is_null_": True}}
        (run,) = team.ask("flow_runs/filter", {"flow_runs": running})
        if stop == "cancel":
            team.ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
        else:
            process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=40)
    assert (process.returncode, team.state(run["id"])) == (143, state)
    assert said.splitlines()[-1] == "Stopped. What was finished is kept: run again to go on."
    assert reproduce(mine, "--no-wait", **team.variables).returncode == 0
    assert sorted(journal(mine)) == ALL


def test_a_server_that_dies_under_a_persons_run_ends_it_in_seconds_and_loses_nothing(team, tmp_path):
    mine = build(tmp_path / "mine")
    with started(mine, "--profile", "smoke", PSR_TEST_SLOW="0.7", **team.variables) as process:
        until(lambda: "make 1" in journal(mine), 200)
        for each in family(team.home / "server"):
            os.kill(each, signal.SIGKILL)
        said, _ = process.communicate(timeout=40)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("the Prefect server died (http://127.0.0.1")
    before = reproduce(mine, "--no-wait", **team.variables)
    assert (before.returncode, "the Prefect server does not answer" in before.stderr) == (2, True)
    assert reproduce(mine, "--no-wait").returncode == 0
    assert sorted(journal(mine)) == ALL


def _engine(run: str) -> int:
    """The process of a flow run."""
    import psutil

    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT__FLOW_RUN_ID") == run and "prefect.engine" in process.cmdline():
                return process.pid
        except psutil.Error:
            continue
    raise AssertionError("no process")
