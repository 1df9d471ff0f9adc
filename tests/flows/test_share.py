"""docs/how-to/share.md, followed to the letter by two people, on a folder and on S3: one runs, the other pulls what that made."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import environment
from test_how_to import git
from test_pipeline import clone, door, outputs, sql

from tasks.engine.pipeline import add_output
from tasks.tables.parquet import write_table
from tests.pages import blocks
from tests.results_folder import ablation_row, adaptation_row, bench_row, side_effect_rows

FOLDER, BUCKET, RUNS, PUSHES, PULLS, DELETES, COLLECTS = (
    block.text for block in blocks("share.md") if block.language == "console"
)
IDENTITY = {f"GIT_{who}_{what}": f"{who}@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_DEFAULT_REGION": "us-east-1"}
TABLES = ("headline", "claims", "bench", "adaptation", "ablation", "side_effects", "agreement")


def ran(folder: Path, text: str, remotes: Path, endpoint: str = "") -> str:
    """A console block as one script, on this test's remotes and the profile that tests run."""
    script = text.replace("/srv/team/psr", str(remotes / "dvc")).replace("https://s3.example.org", endpoint)
    script = script.replace("git@example.org:team/psr.git", str(remotes / "git"))
    script = script.replace("--profile full", "--profile smoke").replace("data/full", "data/smoke")
    variables = environment(**IDENTITY, **KEYS)
    done = subprocess.run(
        ["bash", "-ec", script], cwd=folder, env=variables, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which the page's commands for a run went, with rows of the studies that take longer."""
    folder = clone(tmp_path_factory.mktemp("shared") / "clone")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "before")
    ran(folder, RUNS, folder.parent)
    add_studies(folder)
    return folder


def add_studies(folder: Path) -> None:
    """Store and add tables as their commands do, of rows that were not measured."""
    data = folder / "data/smoke"
    for name, rows in {
        "bench": [bench_row("generation", 1.0)],
        "adaptation": [adaptation_row("lora")],
        "ablation": [ablation_row("persona/pirate")],
        "side_effects": side_effect_rows("persona/pirate"),
    }.items():
        write_table(data / name / f"{name}.parquet", name, rows)
        add_output(folder, data / name)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server on this machine that speaks S3, with the page's bucket."""
    import boto3

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < end, "the S3 server does not answer"
            time.sleep(0.2)
        url = f"http://127.0.0.1:{port}"
        keys = dict(zip(("aws_access_key_id", "aws_secret_access_key", "region_name"), KEYS.values(), strict=True))
        boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket="our-bucket")
        yield url
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("begins", [FOLDER, BUCKET], ids=["folder", "bucket"])
def test_whoever_pulls_computes_nothing_and_has_the_same_tables(begins, finished, endpoint, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(finished, first, symlinks=True)
    second.mkdir()
    git(tmp_path, "clone", "-q", "--bare", str(first), "git")
    git(first, "remote", "add", "origin", str(tmp_path / "git"))
    git(first, "push", "-q", "-u", "origin", "HEAD")
    ran(first, begins, tmp_path, endpoint)
    pushed = ran(first, PUSHES, tmp_path)
    assert "neither" not in pushed
    assert "data/smoke/bench: 1 files" in pushed
    assert git(first, "status", "--porcelain") == ""
    pulled = ran(second, PULLS, tmp_path)
    other = second / "psr"
    assert "Nothing to do" in pulled
    assert pulled[pulled.index("trait alignment") :] == table(first)
    assert shared(other) == shared(first)
    assert tables(other) == tables(first)
    assert not (other / ".psr/cells").exists()
    assert "neither" not in ran(first, PUSHES.splitlines()[-2], tmp_path)

    again = ran(other, DELETES, tmp_path)
    assert "Nothing to do" in again
    assert shared(other) == shared(first)
    assert tables(other) == tables(first)
    assert (other / ".psr/mlflow.db").exists()
    ran(other, COLLECTS, tmp_path)
    assert "are here already" in ran(other, DELETES.splitlines()[-2], tmp_path)
    assert "Nothing to do" in ran(other, DELETES.splitlines()[-1], tmp_path)


def table(folder: Path) -> str:
    said = ran(folder, DELETES.splitlines()[-1], folder.parent)
    assert "Nothing to do" in said
    return said[said.index("trait alignment") :]


def shared(folder: Path) -> dict[str, bytes]:
    """Every output but the page of studies, which is made from them where it is wanted."""
    return {name: content for name, content in outputs(folder).items() if not name.startswith("data/smoke/page/")}


def tables(folder: Path) -> dict[str, list[dict]]:
    rows = {name: sql(folder, f"select * from {name} where profile = 'smoke' order by all") for name in TABLES}
    assert all(rows.values()), [name for name, found in rows.items() if not found]
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bucket", "server", "words"),
    [("nobodys-bucket", "", "bucket does not exist"), ("our-bucket", "http://127.0.0.1:9", "Could not connect")],
)
def test_a_bucket_that_refuses_and_a_server_that_is_gone_are_one_line(
    bucket, server, words, finished, endpoint, tmp_path
):
    folder = shutil.copytree(finished, tmp_path / "first", symlinks=True)
    ran(folder, BUCKET.partition("git commit")[0].replace("our-bucket", bucket), tmp_path, server or endpoint)
    done = door(folder, "flows.share", "push", "--profile", "smoke", check=False, **KEYS)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"the remote failed (s3://{bucket}/psr)" in done.stderr
    assert words in done.stderr
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in done.stderr
