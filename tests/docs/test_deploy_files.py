"""The files of docs/deploy are what their readers take, and are as careful as they say."""

from __future__ import annotations

import configparser
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from fastworker.cli import main
from fastworker.cli._doctor_parts import known_variables
from tests.docs.page import DOCS
from tests.nng.shell import Plane, open_shell
from tests.ports import free_port

DEPLOY = DOCS / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
yaml: Any = importlib.import_module("yaml")

KUBERNETES: list[dict[str, Any]] = list(
    yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
)
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, with what they say on one line."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M))
    found = [line.partition(" ") for line in text.splitlines() if line]
    return [(name, value.strip()) for name, _, value in found]


def pods() -> dict[str, dict[str, Any]]:
    """Kubernetes' pods by the name of what makes them."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in KUBERNETES
        if "template" in each["spec"]
    }


def typed_commands() -> list[list[str]]:
    """What each of the files has ``fastworker`` do."""
    found: list[list[str]] = []
    for unit in UNITS:
        for line in re.findall(
            r"^ExecStart(?:Pre)?=\S+/fastworker (.*)$", unit.read_text(), re.M
        ):
            found.append(line.split())
    found.append(COMPOSE["services"]["control-plane"]["command"])
    found.append(["subworker", "--worker-id=x", *COMPOSE["services"]["subworker"]["command"]])
    for pod in pods().values():
        found += [container["args"] for container in pod["containers"]]
    found.append(json.loads(dict(instructions())["CMD"]))
    return found


def health_checks() -> list[list[str]]:
    """Each command that asks whether a control plane is well, once."""
    asked = [json.loads(dict(instructions())["HEALTHCHECK"].partition(" CMD ")[2])]
    for pod in pods().values():
        for container in pod["containers"]:
            for probe in ("readinessProbe", "livenessProbe"):
                if probe in container:
                    asked.append(container[probe]["exec"]["command"])
    return [json.loads(text) for text in dict.fromkeys(map(json.dumps, asked))]


# --- systemd ---


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_can_be_read_and_runs_as_a_user_of_its_own(unit: Path, tmp_path: Path) -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    service = parser["Service"]
    assert service["User"] == "fastworker"
    assert service["UMask"] == "0077"
    assert service["RestartPreventExitStatus"] == "78"
    assert int(service["TimeoutStopSec"]) > 32  # what a drain takes at most
    verify = shutil.which("systemd-analyze")
    if verify is not None:
        # It wants the programs that are started to be there.
        there = tmp_path / unit.name
        program = tmp_path / "fastworker"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        there.write_text(
            unit.read_text().replace("/srv/app/.venv/bin/fastworker", str(program))
        )
        done = subprocess.run([verify, "verify", str(there)], capture_output=True, text=True)
        about = [line for line in done.stderr.splitlines() if unit.name in line]
        assert (done.returncode, about) == (0, [])


# --- containers ---


def test_the_image_runs_as_a_number_that_is_not_root_and_says_whether_it_is_well() -> None:
    found = dict(instructions())
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "VOLUME", "USER", "EXPOSE"}
    assert set(found) == known | {"STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert int(found["USER"]) > 0
    assert json.loads(found["ENTRYPOINT"]) == ["fastworker"]
    assert "/readyz" in found["HEALTHCHECK"]
    names = [name for name, _ in instructions()]
    assert names.index("USER") > names.index("RUN")
    assert not re.search(r"token|password|secret", DOCKERFILE, re.IGNORECASE)


def test_composed_services_are_locked_down_and_publish_to_this_machine_alone() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        # A variable that is not set ends it, with what to do.
        assert ":?" in service["environment"]["FASTWORKER_AUTH_TOKEN"]
        for port in service.get("ports", []):
            host, outside, inside = port.split(":")
            assert host == "127.0.0.1"
            assert outside == inside
    assert COMPOSE["services"]["subworker"]["depends_on"] == {
        "control-plane": {"condition": "service_healthy"}
    }


# --- Kubernetes ---


def test_pods_are_locked_down_and_their_token_comes_from_a_secret() -> None:
    assert set(pods()) == {"control-plane", "subworker"}
    for name, pod in pods().items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] == int(dict(instructions())["USER"])
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        # Else a service of this name would look like settings of ours.
        assert pod["enableServiceLinks"] is False
        assert pod["terminationGracePeriodSeconds"] > 32
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            variables = {each["name"]: each for each in container["env"]}
            token = variables["FASTWORKER_AUTH_TOKEN"]
            assert token["valueFrom"]["secretKeyRef"] == {"name": "fastworker", "key": "token"}


def test_kubernetes_objects_name_each_other() -> None:
    for each in KUBERNETES:
        assert {"apiVersion", "kind", "metadata", "spec"} <= set(each)
    (service,) = [each for each in KUBERNETES if each["kind"] == "Service"]
    (plane,) = [each for each in KUBERNETES if each["kind"] == "StatefulSet"]
    labels = plane["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert plane["spec"]["serviceName"] == service["metadata"]["name"]
    assert plane["spec"]["replicas"] == 1
    for port in service["spec"]["ports"]:
        assert port["port"] == port["targetPort"]
    for each in KUBERNETES:
        if "template" in each["spec"]:
            wanted = each["spec"]["selector"]["matchLabels"]
            assert wanted.items() <= each["spec"]["template"]["metadata"]["labels"].items()
            for container in each["spec"]["template"]["spec"]["containers"]:
                claims = each["spec"].get("volumeClaimTemplates", [])
                volumes = each["spec"]["template"]["spec"]["volumes"]
                known = {v["name"] for v in volumes} | {c["metadata"]["name"] for c in claims}
                assert {mount["name"] for mount in container["volumeMounts"]} <= known


# --- all of them ---


@pytest.mark.parametrize("arguments", typed_commands(), ids=" ".join)
def test_every_command_of_the_files_is_one_that_is_there(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Settings of the units; here only the options are looked at.
    monkeypatch.setenv("FASTWORKER_WORKER_ID", "x")
    monkeypatch.setenv("FASTWORKER_CONTROL_PLANE_ADDRESS", "tcp://127.0.0.1:5555")
    command = main.commands[arguments[0]]
    # The settings too: click keeps what --help is called, the first time it is asked.
    parent = click.Context(main, **main.context_settings)
    with command.make_context(arguments[0], arguments[1:], parent) as context:
        assert context.params


def test_every_variable_of_the_files_is_one_that_is_read() -> None:
    for path in DEPLOY.iterdir():
        said = set(re.findall(r"FASTWORKER_[A-Z_]+[A-Z]", path.read_text()))
        assert said <= set(known_variables()), path.name


def test_the_page_shows_every_file() -> None:
    page = (DOCS / "how-to" / "deploy.md").read_text()
    shown = re.findall(r"^```\{literalinclude\} \.\./deploy/(\S+)$", page, re.M)
    assert sorted(shown) == sorted(path.name for path in DEPLOY.iterdir())


@pytest.mark.nng
@pytest.mark.slow
@pytest.mark.parametrize("check", health_checks(), ids=lambda check: check[-1][-30:-14])
def test_a_health_check_tells_a_control_plane_that_is_well_from_one_that_is_gone(
    check: list[str], tmp_path: Path
) -> None:
    port = free_port()
    command = [sys.executable, *(part.replace("8080", str(port)) for part in check[1:])]
    assert check[0] == "python"
    with open_shell(tmp_path) as shell:
        shell.environ["FASTWORKER_GUI_ENABLED"] = "1"
        plane = Plane(shell, f"--gui-port={port}", says="  dashboard ")
        assert subprocess.run(command, capture_output=True).returncode == 0
        plane.command.process.terminate()
        plane.command.wait()
        assert subprocess.run(command, capture_output=True).returncode != 0
