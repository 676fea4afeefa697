"""Every command in README and docs is run here, run by another test, or listed with the reason why no test runs it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from locations import DEMO_MANIFEST, ROOT
from pages import Command, commands

from server.process import running_server

RUN_HERE = (
    r"python client/(transcribe|bench)\.py .*",
    r"nemo-triton (transcribe|bench|models).*",
    r"python export_scripts/(export\.py --list|check\.py .*)",
    r"curl .*/v2/health/ready",
)
"""Commands that this test runs against a server of the demo's models."""

SERVERS = r"tritonserver .*"
"""Commands that start a server; this test starts it with the same options on free ports."""

ELSEWHERE: dict[str, str] = {}
"""Commands by pattern, and the test or make target that runs them in `make test`."""

NOT_RUN: dict[str, str] = {}
"""Commands by pattern, and why no test runs them."""
