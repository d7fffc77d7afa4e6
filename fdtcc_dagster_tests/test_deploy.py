"""What deploy/ says, without running it: `scale/test_compose.py` runs the services."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.run_coordinator import QueuedRunCoordinator

from fdtcc_dagster import FoundryContainerResource, FoundryParquetIOManager
from fdtcc_dagster_tests.scale.services import program

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
MODULE = (DEPLOY / "location" / "foundry_location.py").read_text(encoding="utf-8")
READ = set(re.findall(r'(?:setting\(|secret\(|"env": )"(\w+)"', MODULE))
"""The variables that the code location reads."""
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
VALUES: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "deployments.md").read_text(encoding="utf-8")
(VERSION,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|LOCK_DATABASE|ACCESS_KEY")


@pytest.fixture
def location(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The code location can be imported, in an environment without its variables."""
    for name in READ:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.syspath_prepend(DEPLOY / "location")
    sys.modules.pop("foundry_location", None)
    yield monkeypatch
    sys.modules.pop("foundry_location", None)


def loaded() -> tuple[dg.Definitions, FoundryContainerResource, FoundryParquetIOManager]:
    import foundry_location  # type: ignore[import-not-found]

    defs: dg.Definitions = foundry_location.defs
    assert defs.resources is not None
    assert {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()} == {"orders", "customers"}
    return defs, defs.resources["foundry_container"], defs.resources["foundry_io_manager"]


def test_with_nothing_set_it_is_of_one_machine(location: pytest.MonkeyPatch) -> None:
    defs, container, store = loaded()
    assert (container.host, container.port, container.secure) == ("127.0.0.1", 8888, False)
    assert (container.bearer_token, container.lock_database, container.spool_directory) == (None, None, None)
    assert store.base_dir == "data"
    assert defs.resolve_implicit_global_asset_job_def().executor_def.name == "multiprocess"


def test_with_all_set_it_is_of_celery_and_an_object_store(location: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dagster_celery")
    given = {name: f"value-of-{name}" for name in READ}
    given.update(FOUNDRY_PORT="8443", FOUNDRY_TLS="1", FOUNDRY_PROCESSES="3", FOUNDRY_STORE="s3://bucket/parquet")
    given.update(CELERY_BROKER="redis://127.0.0.1/0", CELERY_RESULTS="redis://127.0.0.1/1")
    for name, value in given.items():
        location.setenv(name, value)
    defs, container, store = loaded()
    assert (container.host, container.port, container.secure) == (given["FOUNDRY_HOST"], 8443, True)
    assert (container.ca_file, container.spool_directory) == (given["FOUNDRY_CA_FILE"], given["FOUNDRY_SPOOL"])
    assert container.bearer_token == dg.EnvVar("FOUNDRY_TOKEN")
    assert container.lock_database == dg.EnvVar("FOUNDRY_LOCK_DATABASE")
    assert store.base_dir == "s3://bucket/parquet"
    assert defs.resolve_implicit_global_asset_job_def().executor_def.name == "celery"


def test_what_is_empty_counts_as_not_set(location: pytest.MonkeyPatch) -> None:
    for name in READ:
        location.setenv(name, "")
    assert loaded()[1].port == 8888


def test_the_page_has_a_row_for_each_variable() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.partition("## The variables")[2].partition("\n## ")[0], re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert {row for row in rows if not row.startswith("AWS_")} == READ


def test_the_image_has_the_version_of_the_package() -> None:
    assert SERVICES["code"]["image"] == f"fdtcc-dagster:{VERSION}"
    for text in (DOCKERFILE, PAGE):
        assert re.findall(r"docker build .* fdtcc-dagster:(\S+) \.", text) == [VERSION]


def test_services_get_only_what_they_read() -> None:
    known = READ | set(re.findall(r"AWS_\w+", PAGE))
    image = set(re.findall(r"(\w+)=\S", DOCKERFILE.partition("\nENV ")[2].partition("WORKDIR")[0]))
    assert "FOUNDRY_SPOOL" in image
    settings = (DEPLOY / "compose" / "dagster.yaml").read_text()
    for name in ("code", "webserver", "daemon"):
        given = set(SERVICES[name]["environment"])
        assert given & set(re.findall(r"env: (\w+)", settings)) == {"POSTGRES_PASSWORD"}
        assert given - {"POSTGRES_PASSWORD"} <= (known if name == "code" else set())
    lines = re.findall(r"^(\w+)=(.*)$", (DEPLOY / "compose" / ".env.example").read_text(), re.MULTILINE)
    used = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose" / "compose.yaml").read_text()))
    assert used - {"CONTAINER_SOURCE"} == {name for name, _ in lines} - {"COMPOSE_PROFILES"}
    assert [name for name, value in lines if value and SECRET.search(name)] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_closed_pinned_and_checked(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":[^:/]*\d[^:/]*$|:local$", service["image"]), "it needs a tag that says which"
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    for variable, value in service.get("environment", {}).items():
        assert not SECRET.search(variable) or "${" in value, f"{variable} is written down"
    assert service["healthcheck"]["test"][0] == "CMD"
    for other, how in service.get("depends_on", {}).items():
        assert how["condition"] == "service_healthy"
        # What only some profiles have is not waited for by the others.
        assert other in SERVICES
        assert how.get("required", True) == ("profiles" not in SERVICES[other])
    for volume in service.get("volumes", []):
        source, _, *mode = volume.split(":")
        if source.startswith("./"):
            assert mode == ["ro"]
            assert (DEPLOY / "compose" / source).exists()
        else:
            assert source in COMPOSE["volumes"]
    for secret in service.get("secrets", []):
        assert (secret["source"] if isinstance(secret, dict) else secret) in COMPOSE["secrets"]
    if name not in ("postgres", "fdt-container"):  # whose images need root for a moment
        assert service["user"].split(":")[0] not in ("0", "root")
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_only_nginx_reaches_the_container_and_only_it_has_the_key() -> None:
    assert {name for name, each in SERVICES.items() if "container" in each["networks"]} == {
        "nginx", "fdt-container", "sandbox"
    }  # fmt: skip
    assert {name for name, each in SERVICES.items() if {"dagster", "container"} <= set(each["networks"])} == {"nginx"}
    assert [name for name, each in SERVICES.items() if "tls_key" in each.get("secrets", [])] == ["nginx"]


def test_the_image_has_what_the_deployments_need_and_nobodys_user() -> None:
    (extras,) = re.findall(r"'\.\[(.+?)\]'", DOCKERFILE)
    section = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2]
    offered = set(re.findall(r"^(\w+) = \[", section.partition("\n[")[0], re.MULTILINE))
    assert set(extras.split(",")) <= offered
    pinned = dict(re.findall(r"^([\w-]+)(?:\[\w+\])?==(\S+)$", (DEPLOY / "requirements.txt").read_text(), re.MULTILINE))
    assert set(pinned) == {"dagster", "dagster-webserver", "dagster-postgres", "dagster-celery", "dagster-k8s"}
    # One release: that of the chart, whose integrations are numbered otherwise.
    release = pinned["dagster"]
    for text in (PAGE, (DEPLOY / "kubernetes" / "values.yaml").read_text()):
        assert re.findall(r"--version (\S+)", text) == [release]
    _, minor, patch = map(int, release.split("."))
    for package, version in pinned.items():
        ours = release if package in ("dagster", "dagster-webserver") else f"0.{minor + 16}.{patch}"
        assert version == ours
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert set(stages) == {"python:${PYTHON}-slim"}
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)", last, re.MULTILINE) == ["10001:10001"] == [SERVICES["code"]["user"]]
    assert "apt-get" not in DOCKERFILE
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in copied.split():
            assert (ROOT / source).exists()
            assert f"!{source}" in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()


def test_secrets_are_new_each_time_and_stay_out_of_the_repository(tmp_path: Path) -> None:
    made, sh = [], program("sh")
    program("openssl")
    for name in ("first", "second"):
        (directory := tmp_path / name).mkdir()
        for file in ("prepare.sh", ".env.example"):
            (directory / file).write_text((DEPLOY / "compose" / file).read_text())
        for _ in range(2):  # the second time changes nothing
            subprocess.run([sh, "prepare.sh"], cwd=directory, check=True, timeout=20)
            made.append(
                {str(file.relative_to(directory)): file.read_text() for file in directory.rglob("*") if file.is_file()}
            )
        assert (directory / "secrets").stat().st_mode & 0o077 == 0
        assert (directory / ".env").stat().st_mode & 0o077 == 0
    assert (made[0], made[2]) == (made[1], made[3])
    for file in (".env", "secrets/tokens", "secrets/tls_key", "secrets/tls_certificate"):
        assert made[0][file] != made[2][file]
    token = dict(re.findall(r"^(\w+)=(.+)$", made[0][".env"], re.MULTILINE))["FOUNDRY_TOKEN"]
    assert made[0]["secrets/tokens"] == f'"Bearer {token}" 1;\n'
    assert {".env", "secrets/"} <= set((DEPLOY / "compose" / ".gitignore").read_text().split())


CHART = {
    "": {
        "additionalInstanceConfig", "computeLogManager", "dagster-user-deployments", "dagsterDaemon",
        "dagsterWebserver", "generatePostgresqlPasswordSecret", "global", "ingress", "postgresql", "runLauncher",
        "telemetry",
    },
    "dagsterDaemon": {
        "image", "podSecurityContext", "securityContext", "resources", "volumes", "volumeMounts", "runCoordinator",
        "runMonitoring",
    },
    "dagsterWebserver": {
        "image", "service", "podSecurityContext", "securityContext", "resources", "volumes", "volumeMounts",
        "readinessProbe",
    },
    "postgresql": {"enabled", "postgresqlHost", "postgresqlUsername", "postgresqlDatabase", "postgresqlScheme"},
}  # fmt: skip
"""What Dagster's chart understands, of what is used: Helm passes over a value that is misspelled."""
CHARTS_QUEUE: dict[str, Any] = {
    "maxConcurrentRuns": None,
    "tagConcurrencyLimits": [],
    "dequeueUseThreads": True,
    "dequeueNumWorkers": 4,
}
"""What the chart says of the queue by default. Only if all is empty, it writes no limit of its own."""


def instance_settings(kubeconfig: Path) -> dict[str, Any]:
    """The parts of dagster.yaml that the chart makes of these values and its defaults, without the storage."""
    launcher = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    coordinator = VALUES["dagsterDaemon"]["runCoordinator"]
    # Where it is off, the chart takes a coordinator without a queue. Dagster refuses a limit that the chart adds.
    assert coordinator["enabled"]
    assert not any({**CHARTS_QUEUE, **coordinator["config"]["queuedRunCoordinator"]}.values())
    snake = {
        "imagePullPolicy": "image_pull_policy", "volumes": "volumes", "volumeMounts": "volume_mounts",
        "resources": "resources", "securityContext": "security_context",
    }  # fmt: skip
    kubernetes = {
        "containerConfig": "container_config", "podSpecConfig": "pod_spec_config", "jobSpecConfig": "job_spec_config"
    }  # fmt: skip
    assert set(launcher) == {*snake, "envSecrets", "runK8sConfig"}
    monitoring = VALUES["dagsterDaemon"]["runMonitoring"]
    return {
        "run_launcher": {
            "module": "dagster_k8s",
            "class": VALUES["runLauncher"]["type"],
            "config": {
                **{snake[name]: value for name, value in launcher.items() if name in snake},
                "env_secrets": [each["name"] for each in launcher["envSecrets"]],
                "run_k8s_config": {kubernetes[name]: value for name, value in launcher["runK8sConfig"].items()},
                "load_incluster_config": False,
                "kubeconfig_file": str(kubeconfig),
                "dagster_home": VALUES["global"]["dagsterHome"],
                "instance_config_map": "dagster-instance",
                "postgres_password_secret": VALUES["global"]["postgresqlSecretName"],
                "service_account_name": "dagster",
                "job_namespace": "default",
            },
        },
        "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"},
        "run_monitoring": {
            "enabled": monitoring["enabled"],
            "start_timeout_seconds": monitoring["startTimeoutSeconds"],
            "max_resume_run_attempts": monitoring["maxResumeRunAttempts"],
            "poll_interval_seconds": monitoring["pollIntervalSeconds"],
            "free_slots_after_run_end_seconds": monitoring["freeSlotsAfterRunEndSeconds"],
        },
        "telemetry": VALUES["telemetry"],
        **deepcopy(VALUES["additionalInstanceConfig"]),
    }


def test_the_chart_understands_the_values_and_nothing_is_public() -> None:
    for part, names in CHART.items():
        assert set(VALUES[part] if part else VALUES) <= names
    assert VALUES["dagsterWebserver"]["service"]["type"] == "ClusterIP"
    assert VALUES["ingress"] == {"enabled": False}
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    assert deployment["dagsterApiGrpcArgs"] == ["-m", "foundry_location"]
    assert {each["name"] for each in deployment["env"]} <= READ
    assert [each["name"] for each in deployment["env"] if SECRET.search(each["name"])] == []
    mounted = {each["name"] for each in deployment["volumeMounts"]}
    assert mounted == {each["name"] for each in deployment["volumes"]} == {"tmp", "spool"}
    for each in (deployment, VALUES["dagsterDaemon"], VALUES["dagsterWebserver"]):
        assert each["image"]["tag"] not in ("", "latest")
        assert each["podSecurityContext"]["runAsUser"] == 10001
        assert each["securityContext"]["readOnlyRootFilesystem"]
        assert each["resources"]["limits"]["memory"]


def test_the_pod_of_a_run_is_as_the_values_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubernetes = pytest.importorskip("kubernetes")
    pytest.importorskip("dagster_k8s")
    (kubeconfig := tmp_path / "kubeconfig").write_text(
        "{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}], "
        "clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}], users: [{name: a, user: {token: none}}]}"
    )
    made: list[Any] = []
    monkeypatch.setattr(
        kubernetes.client.BatchV1Api, "create_namespaced_job", lambda _, body, namespace, **__: made.append(body)
    )
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    image = "{repository}:{tag}".format(**deployment["image"])
    code = RepositoryPythonOrigin("python", ModuleCodePointer("foundry_location", "defs"), container_image=image)
    settings = instance_settings(kubeconfig)
    settings["local_artifact_storage"]["config"]["base_dir"] = str(tmp_path)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
        limits = instance.get_concurrency_config()
        assert limits.run_queue_config
        assert (limits.run_queue_config.max_concurrent_runs, limits.pool_config.default_pool_limit) == (10, 4)
        run = dg.DagsterRun(job_name="__ASSET_JOB", job_code_origin=JobPythonOrigin("__ASSET_JOB", code))
        instance.run_launcher.launch_run(LaunchRunContext(instance.add_run(run), workspace=None))
    manifest = kubernetes.client.ApiClient().sanitize_for_serialization(made[0])
    spec = manifest["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment.items() >= {each["name"]: each["value"] for each in deployment["env"]}.items()
    assert {"secretRef": {"name": "foundry"}} in container["envFrom"]
    assert container["image"] == f"registry.example.com/fdtcc-dagster:{VERSION}"
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "4Gi"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    paths = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert (paths["tmp"], paths["spool"]) == ("/tmp", "/srv/spool")  # noqa: S108
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert set(paths) == set(volumes)
    assert volumes["spool"]["emptyDir"] == {"sizeLimit": "50Gi"}
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["fsGroup"] == 10001
    assert manifest["spec"]["activeDeadlineSeconds"] == 21600
