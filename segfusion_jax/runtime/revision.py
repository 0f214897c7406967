"""Which code runs: the commit that this package is of."""

import importlib.metadata
import json
import pathlib
import subprocess

_DIGITS = 12


def revision() -> str:
    """Returns the commit that the package was installed from or lies in, with "-dirty" after changes; "" if unknown."""
    root = pathlib.Path(__file__).parents[2]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", f"--abbrev={_DIGITS}", "--exclude=*"]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return ""
    try:
        origin = importlib.metadata.distribution("segfusion_jax").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return ""
    return json.loads(origin or "{}").get("vcs_info", {}).get("commit_id", "")[:_DIGITS]
