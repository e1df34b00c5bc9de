"""One bare git repository per project: commits by compare-and-swap, and history to read.

Import the backend from `heddle_kit.git.embedded`; this package itself loads no git library.
"""

from heddle_kit.git.paths import check_path
from heddle_kit.git.port import (
    BadPath,
    CommitRecord,
    Conflict,
    GitFault,
    GitMissing,
    GitTooLarge,
    Identity,
    Locked,
    NewCommit,
    Prepared,
    ProjectRepository,
    Projects,
)

__all__ = [
    "BadPath",
    "CommitRecord",
    "Conflict",
    "GitFault",
    "GitMissing",
    "GitTooLarge",
    "Identity",
    "Locked",
    "NewCommit",
    "Prepared",
    "ProjectRepository",
    "Projects",
    "check_path",
]
