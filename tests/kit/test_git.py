"""Project repositories: commits by compare-and-swap, safe paths, readable history."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from heddle_kit.git import BadPath, Conflict, GitFault, GitTooLarge, Identity, Locked, NewCommit, check_path
from heddle_kit.git.embedded import LocalProjects, LocalRepository

ME = Identity(name="Ada", email="ada@example.com")
BAD_PATHS = [
    "",
    "/etc/passwd",
    "../x",
    "dags/../x",
    "dags//x",
    "dags/./x",
    "dags/x/",
    ".git/config",
    "dags/.git/hooks/x",
    "dags/.GIT/x",
    "dags/git~1/x",
    "dags/.git./x",
    "dags/.git /x",
    "dags/x.",
    "dags/x ",
    "dags\\x",
    "dags/a\x00b",
    "dags/a\nb",
    "dags/a\u202eb",
    "dags/\ud800",
    "dags/e\u0301",
    "dags/" + "x" * 256,
    "dags/" + "x/" * 600 + "y",
    "other/x",
    "x.py",
    "C:/x",
]


def _change(path: str = "dags/a.py", data: bytes = b"1", **more: object) -> NewCommit:
    return NewCommit(files={path: data}, subject="Change", author=ME, **more)  # type: ignore[arg-type]


@pytest.fixture
def projects(tmp_path: Path) -> LocalProjects:
    return LocalProjects(tmp_path / "a data folder")


@pytest.fixture
async def repo(projects: LocalProjects) -> LocalRepository:
    return await projects.open(uuid.uuid4())


async def test_a_commit_can_be_read_listed_and_found_in_history(repo: LocalRepository) -> None:
    first = await repo.tip()
    made = await repo.commit(_change(trailers={"Run-Id": "r1"}))

    assert await repo.tip() == made
    assert await repo.read("dags/a.py") == b"1"
    assert await repo.read("dags/a.py", first) is None
    assert await repo.list_files("dags") == ["dags/a.py"]
    (record,) = await repo.history(after=first)
    assert (record.commit_id, record.parent_id, record.subject) == (made, first, "Change")
    assert record.trailers == {"Run-Id": "r1"}
    assert record.changed_paths == ["dags/a.py"]
    assert record.author == ME
    assert [item.commit_id for item in await repo.history(path="dags/a.py")] == [made]


async def test_a_file_can_be_removed(repo: LocalRepository) -> None:
    await repo.commit(_change())
    await repo.commit(NewCommit(files={"dags/a.py": None}, subject="Gone", author=ME))
    assert await repo.list_files("dags") == []


async def test_opening_one_project_many_times_at_once_makes_one_repository(projects: LocalProjects) -> None:
    project = uuid.uuid4()
    opened = await asyncio.gather(*(projects.open(project) for _ in range(12)))
    assert len({await repo.tip() for repo in opened}) == 1
    assert [path.name for path in opened[0].path.parent.iterdir()] == [f"{project}.git"]


async def test_commits_from_many_tasks_all_land(repo: LocalRepository) -> None:
    made = await asyncio.gather(*(repo.commit(_change(f"dags/f{n}.py")) for n in range(24)))
    assert len(set(made)) == 24
    assert len(await repo.list_files("dags")) == 24
    assert len(await repo.history()) == 25


async def test_the_branch_moves_only_from_where_it_was_seen(repo: LocalRepository) -> None:
    tip = await repo.tip()
    ours = await repo.prepare(_change("dags/a.py"), parent=tip)
    theirs = await repo.commit(_change("dags/b.py"))
    with pytest.raises(Conflict):
        await repo.move(expected=tip, target=ours.commit_id)
    assert await repo.tip() == theirs


async def test_a_change_made_against_an_old_version_of_its_file_conflicts(repo: LocalRepository) -> None:
    base = await repo.commit(_change(data=b"1"))
    await repo.commit(_change(data=b"2"))
    with pytest.raises(Conflict, match=r"dags/a\.py"):
        await repo.commit(_change(data=b"3", base=base))
    await repo.commit(_change("dags/other.py", base=base))
    assert await repo.read("dags/a.py") == b"2"


@pytest.mark.parametrize("path", BAD_PATHS)
async def test_no_entrance_takes_a_bad_path(repo: LocalRepository, path: str) -> None:
    tip = await repo.tip()
    with pytest.raises(BadPath):
        check_path(path)
    with pytest.raises(BadPath):
        await repo.commit(_change(path))
    with pytest.raises(BadPath):
        await repo.read(path)
    with pytest.raises(BadPath):
        await repo.history(path=path)
    assert await repo.tip() == tip


def _push_a_link(repo: LocalRepository, tmp_path: Path) -> None:
    git = ["git", "-c", "safe.directory=*", "-c", "user.name=x", "-c", "user.email=x@x"]
    clone = tmp_path / "clone"
    subprocess.run([*git, "clone", "-q", repo.path, clone], check=True)
    (clone / "dags").mkdir()
    (clone / "dags" / "link.py").symlink_to("/etc/passwd")
    subprocess.run([*git, "-C", clone, "add", "-A"], check=True)
    subprocess.run([*git, "-C", clone, "commit", "-qm", "link"], check=True)
    subprocess.run([*git, "-C", clone, "push", "-q", "origin", "HEAD:main"], check=True)


async def test_a_link_from_another_git_client_is_neither_served_nor_built_upon(
    repo: LocalRepository, tmp_path: Path
) -> None:
    await asyncio.to_thread(_push_a_link, repo, tmp_path)
    with pytest.raises(BadPath):
        await repo.read("dags/link.py")
    assert await repo.list_files("dags") == []
    with pytest.raises(GitFault, match="link"):
        await repo.commit(_change())


async def test_programs_named_in_a_repository_do_not_run(repo: LocalRepository, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    script = tmp_path / "trap.sh"
    script.write_text(f"#!/bin/sh\ntouch {trap}\n")
    script.chmod(0o755)
    hooks = repo.path / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-commit", "post-commit", "reference-transaction", "post-index-change", "update"):
        (hooks / name).symlink_to(script)
    with (repo.path / "config").open("a") as config:
        config.write(f'[core]\n\tfsmonitor = {script}\n[filter "x"]\n\tclean = {script}\n\tsmudge = {script}\n')
        config.write(f"[diff]\n\texternal = {script}\n")
    await repo.commit(_change())
    await repo.read("dags/a.py")
    await repo.history()
    assert not trap.exists()


async def test_too_much_is_refused_before_it_is_stored(repo: LocalRepository) -> None:
    with pytest.raises(GitTooLarge):
        await repo.commit(_change(data=b"x" * (5 * 1024 * 1024 + 1)))
    files = {f"dags/f{n}.py": b"" for n in range(1001)}
    with pytest.raises(GitTooLarge):
        await repo.commit(NewCommit(files=files, subject="x", author=ME))


async def test_a_stale_lock_is_reported_and_not_waited_on_for_ever(repo: LocalRepository) -> None:
    (repo.path / "refs" / "heads" / "main.lock").touch()
    with pytest.raises(Locked, match=r"main\.lock"):
        await repo.commit(_change())


async def test_names_and_subjects_cannot_break_a_commit(repo: LocalRepository) -> None:
    author = Identity(name="Eve <root@x>\nauthor x", email="e\n@x>")
    change = NewCommit(
        files={"dags/a.py": b""},
        subject="a\nRun-Id: fake\x00" + "x" * 500,
        author=author,
        trailers={"Run-Id": "r\nx: y"},
    )
    await repo.commit(change)
    record = (await repo.history())[0]
    assert record.trailers == {"Run-Id": "r x: y"}
    assert len(record.subject) <= 200
    assert record.author == Identity(name="Eve root@x author x", email="e@x")


async def test_a_process_killed_before_the_branch_moves_leaves_the_old_tip(
    projects: LocalProjects, tmp_path: Path
) -> None:
    project = uuid.uuid4()
    repo = await projects.open(project)
    tip = await repo.tip()
    code = (
        "import asyncio, os, signal, uuid\nfrom pathlib import Path\n"
        "from heddle_kit.git import Identity, NewCommit\nfrom heddle_kit.git.embedded import LocalProjects\n"
        "async def main():\n"
        f"    data = Path({str(tmp_path / 'a data folder')!r})\n"
        f"    repo = await LocalProjects(data).open(uuid.UUID({str(project)!r}))\n"
        "    who = Identity(name='a', email='b')\n"
        "    change = NewCommit(files={'dags/a.py': b'1'}, subject='x', author=who)\n"
        "    await repo.prepare(change, parent=await repo.tip())\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert await repo.tip() == tip
    assert await repo.commit(_change())


def test_without_git_history_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import asyncio, uuid\nfrom pathlib import Path\n"
        "from heddle_kit.git import GitMissing\nfrom heddle_kit.git.embedded import LocalProjects\n"
        "async def main():\n"
        f"    repo = await LocalProjects(Path({str(tmp_path)!r})).open(uuid.uuid4())\n"
        "    try:\n        await repo.history()\n"
        "    except GitMissing as fault:\n        print(fault)\n"
        "asyncio.run(main())\n"
    )
    env = os.environ | {"PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "install git" in done.stdout
    assert done.stderr == ""
