"""docs/how-to/team.md, followed by Ann and Bob: one Prefect server, one MLflow server, an origin, a DVC remote, workers of Dask.

The page's servers keep their records in Postgres; here they have SQLite first, and Postgres where Debian's package is installed.
A worker that takes runs from the server, on demand and by a schedule, has its own tests: those of docs/how-to/schedule.md.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from repository import environment, until
from test_how_to import git
from test_pipeline import clone, outputs

from tasks.shown import tracker
from tests.pages import blocks
from tests.tracked import runs

INSTALL, PREFECT, MLFLOW, PERSON, RUNS, PULLS, ASKS, TRIES, BACKUP, RESTORE = (
    block.text for block in blocks("team.md") if block.language == "console"
)
PASSWORD = "hunter2"
SQLITE = {
    "postgresql+asyncpg://psr@127.0.0.1/prefect": "sqlite+aiosqlite:///{}/prefect.db",
    "postgresql://psr@127.0.0.1/mlflow": "sqlite:///{}/mlflow.db",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # MLflow's own, on import
]


@dataclass(frozen=True)
class Team:
    """A folder for all that the team has, and the servers' addresses."""

    home: Path
    prefect: str
    mlflow: str

    def ran(self, folder: Path, text: str, **more: str) -> str:
        """What a block of the page prints, on this team's addresses and the profile that tests run."""
        script = self.addressed(PERSON + text.replace("full", "smoke").replace("/srv/team", str(self.home)))
        return bash(folder, script, **more)

    def addressed(self, text: str) -> str:
        """The text with this team's addresses."""
        return text.replace("http://127.0.0.1:4200", self.prefect).replace("http://127.0.0.1:5000", self.mlflow)

    def ask(self, path: str, body: object = None) -> Any:
        """What Prefect's server answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.prefect}/api/{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read())

    def flow_runs(self) -> list[tuple[str, str]]:
        """(name, state) of every reproduction that the server shows, in order."""
        roots = {"sort": "START_TIME_ASC", "flow_runs": {"parent_task_run_id": {"is_null_": True}}}
        return [(run["name"], run["state_type"]) for run in self.ask("flow_runs/filter", roots) if run["start_time"]]

    def tracked(self) -> dict[str, Any]:
        """Every run that MLflow holds, by its id, and what the alias `best` means."""
        with tracker.opened(self.mlflow, None) as store:
            both = [one for kind in ("module", "reproduction") for one in runs(store.client, "smoke", kind)]
            best = store.client.get_model_version_by_alias("smoke-persona-pirate", "best")
            return {**{run.info.run_id: run.to_dictionary() for run in both}, "best": best.run_id}


def bash(folder: Path, script: str, said: str = "", **variables: str) -> str:
    """What a script prints. said: its standard input."""
    done = subprocess.run(
        ["bash", "-ec", script], cwd=folder, env=environment(**variables), input=said, capture_output=True, text=True,
        timeout=500, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    assert PASSWORD not in done.stdout + done.stderr
    return done.stdout


@contextmanager
def served(home: Path, replaced: dict[str, str], **variables: str) -> Iterator[Team]:
    """The page's two servers, on free ports and with these addresses of databases, until the context ends."""
    started, addresses = [], []
    with ExitStack() as stack:
        for text, command, health in (
            (PREFECT, "prefect server start", "api/health"),
            (MLFLOW, "mlflow server", "health"),
        ):
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            script = text.replace(command, f"exec {command} --port {port}").replace("/srv/team", str(home))
            for address, other in replaced.items():
                script = script.replace(address, other.format(home))
            folder = home / command.partition(" ")[0]
            folder.mkdir()
            quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_WORKERS": "1", "PREFECT_HOME": str(folder)}
            process = stack.enter_context(_process(folder, script, **quick, **variables))
            addresses.append(f"http://127.0.0.1:{port}")
            started.append((process, f"{addresses[-1]}/{health}", folder / "log"))
        for process, url, log in started:
            until(lambda process=process, url=url: process.poll() is not None or _answers(url), 400)
            assert process.poll() is None, log.read_text()
        yield Team(home, *addresses)
        assert PASSWORD not in "".join(path.read_text() for path in home.glob("*/log"))


@contextmanager
def _process(folder: Path, script: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A script that goes on, which is told the password first; it and its children end with the context."""
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            ["bash", "-ec", script], cwd=folder, env=environment(**variables), text=True, stdin=subprocess.PIPE,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdin
            process.stdin.write(f"{PASSWORD}\n")
            process.stdin.flush()
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """The servers, with SQLite for Postgres."""
    with served(tmp_path_factory.mktemp("team"), SQLITE) as team:
        yield team


@pytest.fixture(scope="module")
def ann(team: Team) -> tuple[Path, str]:
    """Ann's clone after her day, and what that printed; Bob has cloned the repository before."""
    folder = clone(team.home / "ann")
    path = folder / "params.yaml"
    block = "\n  smoke:  # every step on very little\n"
    path.write_text(path.read_text().replace(block, f"{block}    model:\n      threads: 1\n"))
    bash(folder, f"dvc remote add -q -d team {team.home}/remote")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "before")
    git(team.home, "clone", "-q", "--bare", str(folder), "origin")
    git(folder, "remote", "add", "origin", str(team.home / "origin"))
    git(folder, "push", "-q", "-u", "origin", "HEAD")
    git(team.home, "clone", "-q", "origin", "bob")
    for name in ("ann", "bob"):
        git(team.home / name, "config", "user.name", name.title())
        git(team.home / name, "config", "user.email", f"{name}@example.org")
    return folder, team.ran(folder, RUNS)


def test_one_runs_the_other_pulls_and_a_branch_overwrites_nothing(team, ann):
    first, ran = ann
    bob = team.home / "bob"
    assert "2 workers of dask on this machine" in ran
    assert team.flow_runs() == [("reproduce-smoke", "COMPLETED")]
    by_ann = team.tracked()
    modules = [run for run in by_ann.values() if isinstance(run, dict)]
    assert len(modules) == 3 + 1
    assert {run["data"]["tags"]["mlflow.user"] for run in modules} == {"Ann"}

    pulled = team.ran(bob, PULLS)
    assert "Nothing to do: all 11 steps of smoke are up to date." in pulled
    assert pulled[pulled.index("trait alignment") :] in ran
    assert made(bob) == made(first)
    assert not (bob / ".psr/cells").exists()
    assert team.tracked() == by_ann
    assert len(team.flow_runs()) == 1
    asked = team.ran(bob, ASKS)
    assert "Ann" in asked
    assert "Bob" not in asked

    team.ran(bob, TRIES)
    assert [state for _, state in team.flow_runs()] == ["COMPLETED"] * 2
    both = team.tracked()
    assert {name: both[name] for name in by_ann} == by_ann
    others = [both[name] for name in both.keys() - by_ann.keys()]
    assert {(run["data"]["tags"]["mlflow.user"], run["data"]["params"]["search.questions"]) for run in others} == {
        ("Bob", "3")
    }
    assert len(others) == 3 + 1
    steps = "SELECT step, who FROM made_by WHERE profile = 'full' AND step IN ('distill', 'results')"
    assert sorted(json.loads(team.ran(bob, f'python -m flows.sql "{steps}" --format json')), key=str) == [
        {"step": "distill", "who": "Ann"},
        {"step": "results", "who": "Bob"},
    ]
    assert "Nothing to do" in team.ran(first, PULLS)


def made(folder: Path) -> dict[str, bytes]:
    """Every output of the profile but the page of studies, which is made where it is wanted."""
    return {name: content for name, content in outputs(folder).items() if not name.startswith("data/smoke/page/")}


@pytest.fixture(scope="module")
def postgres() -> Iterator[dict[str, str]]:
    """A new Postgres on the loopback interface, of a user who is not root; yields how to reach it as its owner."""
    found = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    initdb = next((Path(path).resolve() for path in found if path), None)
    if initdb is None:
        pytest.skip("Postgres is not installed, so that team.md is not followed: apt-get install postgresql")
    for package in ("psycopg2", "asyncpg"):
        pytest.importorskip(
            package, reason=f"no {package}, so that team.md is not followed: pip install -e '.[postgres]'"
        )
    user = {"user": "nobody"} if os.geteuid() == 0 else {}  # Postgres refuses root
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    home = Path(tempfile.mkdtemp(prefix="psr-postgres-", dir="/tmp"))  # short: a socket's path has an end
    if user:
        shutil.chown(home, **user)

    def do(*command: str) -> None:
        done = subprocess.run(
            [str(initdb.parent / command[0]), *command[1:]], cwd=home, stdout=subprocess.DEVNULL, **user
        )
        assert done.returncode == 0, command

    do("initdb", "-D", f"{home}/data", "-U", "postgres", "--auth-host=scram-sha-256", "--auth-local=trust", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -c fsync=off -p {port} -k {home}"
    try:
        do("pg_ctl", "-D", f"{home}/data", "-l", f"{home}/log", "-o", options, "-w", "start")
        yield {
            "PGHOST": str(home),
            "PGPORT": port,
            "PGUSER": "postgres",
            "PATH": f"{initdb.parent}:{os.environ['PATH']}",
        }
    finally:
        do("pg_ctl", "-D", f"{home}/data", "-m", "immediate", "stop")
        shutil.rmtree(home)


def test_the_page_on_postgres(ann, postgres, tmp_path):
    owner = INSTALL.replace("sudo apt-get install postgresql\n", "").replace("sudo -u postgres ", "")
    bash(tmp_path, owner, said=f"{PASSWORD}\n" * 2, **postgres)
    of_psr = {"PGPORT": postgres["PGPORT"]}
    home = tmp_path / "team"
    home.mkdir()
    folder = home / "ann"
    shutil.copytree(ann[0], folder, symlinks=True)
    with served(home, {}, **of_psr) as team:
        said = team.ran(folder, 'python -m flows.reproduce --profile full --set "report.title=On Postgres"')
        assert "1 of 11 steps to run" in said
        assert team.flow_runs() == [("reproduce-smoke", "COMPLETED")]
        before = team.tracked()
    assert len(before) == 3 + 1 + 1
    assert [path.name for path in (home / "mlflow").rglob("adapter_model.safetensors")] == [
        "adapter_model.safetensors"
    ] * 3
    client = {**of_psr, "PATH": postgres["PATH"], "PGPASSWORD": PASSWORD}
    bash(home, BACKUP.replace("/srv/team", str(home)), **client)
    ask = "psql -h 127.0.0.1 -U psr -Atc 'SELECT count(*) FROM {}' {}"
    counts = {
        name: bash(home, ask.format(table, name), **client)
        for name, table in (("mlflow", "runs"), ("prefect", "flow_run"))
    }
    assert counts["mlflow"] == "4\n"
    assert int(counts["prefect"]) >= 1
    for name, table in (("mlflow", "runs"), ("prefect", "flow_run")):
        bash(home, f"psql -h 127.0.0.1 -U psr -qc 'TRUNCATE {table} CASCADE' {name}", **client)
    bash(home, RESTORE.replace("/srv/team", str(home)), **client)
    for name, table in (("mlflow", "runs"), ("prefect", "flow_run")):
        assert bash(home, ask.format(table, name), **client) == counts[name]
