"""Manifests for Kubernetes and for Ray's cluster launcher, against published schemas and against what they start."""

import copy
import json
import re
import shlex
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import ray.autoscaler
import tyro
import yaml
from ray.scripts.scripts import start as ray_start

from launcher.recipe_arguments import read_arguments, split_recipe
from launcher.shards import Build
from tests.unit.spe_dist.tiny_run import ROOT

KUBERNETES = "1.33"
KUBERAY = json.loads((Path(__file__).parent / "kuberay.json").read_text())
RAY = Path(ray.__file__).parent
RAY_SCHEMA = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())
SHARDS = ROOT / "cluster/kubernetes/shards.yaml"
IN_IMAGE = "/spe_dist"  # where the image has the repository


@pytest.fixture
def rayjob():
    return yaml.safe_load((ROOT / "cluster/kubernetes/rayjob.yaml").read_text())


@pytest.fixture
def storage():
    return yaml.safe_load((ROOT / "cluster/kubernetes/storage.yaml").read_text())


@pytest.fixture
def aws():
    return yaml.safe_load((ROOT / "cluster/ray/aws.yaml").read_text())


@pytest.fixture
def config(rayjob):
    """What the entrypoint's arguments come to."""
    return read_arguments(arguments_of(rayjob))[0]


def arguments_of(rayjob):
    python, script, *arguments = shlex.split(rayjob["spec"]["entrypoint"])
    assert python == "python" and in_repository(script) == ROOT / "launcher/pretrain.py"
    recipe, rest = split_recipe(arguments)
    return ["--config", str(in_repository(str(recipe))), *rest]


def in_repository(path):
    """The file of the repository that lies at a path of the image."""
    assert path.startswith(f"{IN_IMAGE}/"), path
    file = ROOT / path.removeprefix(f"{IN_IMAGE}/")
    assert file.is_file(), path
    return file


def check_rayjob(rayjob):
    """As the API server does, but with unknown fields refused, which it drops."""
    jsonschema.Draft202012Validator(KUBERAY).validate(rayjob)
    resources = rayjob["spec"]["rayClusterSpec"]["autoscalerOptions"]["resources"]
    autoscaler = {"spec": {"containers": [{"name": "autoscaler", "resources": resources}]}}
    for pod in (*pods_of(rayjob), autoscaler):
        template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": pod}
        kubernetes_validate.validate(template, KUBERNETES, strict=True)


def pods_of(rayjob):
    """Pod templates: of the head, then of the workers."""
    cluster = rayjob["spec"]["rayClusterSpec"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def container_of(pod):
    (container,) = pod["spec"]["containers"]
    return container


def test_rayjob_storage_and_shards_fit_the_schemas(rayjob, storage):
    check_rayjob(rayjob)
    kubernetes_validate.validate(storage, KUBERNETES, strict=True)
    kubernetes_validate.validate(yaml.safe_load(SHARDS.read_text()), KUBERNETES, strict=True)


def test_the_job_that_builds_shards_writes_where_the_run_reads(rayjob, config):
    pod = yaml.safe_load(SHARDS.read_text())["spec"]["template"]
    program, section, command, *arguments = container_of(pod)["command"]
    assert (program, section, command) == ("spe", "shards", "build")
    build = tyro.cli(Build, args=arguments)
    assert (str(build.out), build.tokenizer) == (config.data.shards, config.encoder.name_or_path)
    assert all(Path(text).is_relative_to("/shared") for text in build.inputs)
    head, _ = pods_of(rayjob)
    assert pod["spec"]["volumes"][0] == head["spec"]["volumes"][0]
    assert container_of(pod)["image"] == container_of(head)["image"]


HEAD = ("spec", "rayClusterSpec", "headGroupSpec")
WORKERS = ("spec", "rayClusterSpec", "workerGroupSpecs", 0)
AUTOSCALER = ("spec", "rayClusterSpec", "autoscalerOptions", "resources")
MISTAKES = {
    "a typo beside the job's fields": (("spec", "backofLimit"), 3),
    "a typo beside the cluster's fields": (("spec", "rayClusterSpec", "enableInTreeAutoscalling"), True),
    "a typo beside the token's mode": (("spec", "rayClusterSpec", "authOptions", "secret"), "name"),
    "an unknown mode of authentication": (("spec", "rayClusterSpec", "authOptions", "mode"), "tokens"),
    "a typo beside the group's fields": ((*WORKERS, "maxReplica"), 8),
    "text in place of a number": ((*WORKERS, "maxReplicas"), "8"),
    "a number in place of text": ((*HEAD, "rayStartParams", "num-cpus"), 0),
    "a typo in the head's pod": ((*HEAD, "template", "spec", "terminationGracePeriod"), 60),
    "a typo in a worker's container": ((*WORKERS, "template", "spec", "containers", 0, "volumeMount"), []),
    "a typo beside the autoscaler's resources": ((*AUTOSCALER, "request"), {}),
    "a typo in a hook": ((*WORKERS, "template", "spec", "containers", 0, "lifecycle", "prestop"), {}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_rayjob_is_refused(rayjob, mistake):
    *path, key = MISTAKES[mistake][0]
    part = rayjob
    for step in path:
        part = part[step]
    part[key] = MISTAKES[mistake][1]
    with pytest.raises(jsonschema.ValidationError):
        check_rayjob(rayjob)


def test_the_rayjob_keeps_the_rules_that_the_operator_checks_itself(rayjob):
    """Of KubeRay's validation: they are in no schema."""
    spec, cluster = rayjob["spec"], rayjob["spec"]["rayClusterSpec"]
    assert spec["shutdownAfterJobFinishes"] or not spec["ttlSecondsAfterFinished"]
    assert cluster["autoscalerOptions"]["version"] == "v2" and cluster["enableInTreeAutoscaling"]
    assert all(pod["spec"]["restartPolicy"] == "Never" for pod in pods_of(rayjob))
    options = {option.removeprefix("--") for parameter in ray_start.params for option in parameter.opts}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["rayStartParams"].keys() <= options


def test_the_entrypoint_starts_a_run_of_as_many_ranks_as_there_can_be_pods(rayjob, config):
    (group,) = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    resources = container_of(group["template"])["resources"]
    assert resources["requests"] == resources["limits"]
    gpus = int(resources["limits"]["nvidia.com/gpu"])
    assert gpus == config.cluster.gpus_per_worker == 1
    assert (group["minReplicas"], group["maxReplicas"]) == (config.cluster.min_workers, config.cluster.workers)
    assert group["replicas"] == group["minReplicas"] <= group["maxReplicas"] <= config.batch.lanes
    assert int(resources["limits"]["cpu"]) == config.cluster.cpus_per_worker > config.data.workers
    assert rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_runs_and_shards_lie_on_storage_that_outlives_the_pods(rayjob, storage, config):
    for pod in pods_of(rayjob):
        claims = {
            volume["name"]: volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["spec"]["volumes"]
            if "persistentVolumeClaim" in volume
        }
        mounts = {mount["mountPath"]: mount["name"] for mount in container_of(pod)["volumeMounts"]}
        assert claims[mounts["/shared"]] == storage["metadata"]["name"]
        assert "/dev/shm" in mounts
        variables = {variable["name"]: variable["value"] for variable in container_of(pod)["env"]}
        for path in (config.run.folder, config.data.shards, variables["HF_HOME"]):
            assert Path(path).is_relative_to("/shared")
    assert storage["spec"]["accessModes"] == ["ReadWriteMany"]


def test_nobody_gets_in_without_a_token_and_the_manifest_has_none(rayjob, aws):
    options = rayjob["spec"]["rayClusterSpec"]["authOptions"]
    assert options == {"mode": "token", "secretName": "spe-dist-ray-token"}
    variables = [variable for pod in pods_of(rayjob) for variable in container_of(pod)["env"]]
    assert not [variable for variable in variables if "TOKEN" in variable["name"]]
    assert "--env RAY_AUTH_MODE=token" in aws["docker"]["run_options"]
    assert "~/.ray/auth_token" in aws["file_mounts"] and "RAY_AUTH_TOKEN" not in str(aws)


def test_a_pod_has_time_to_announce_that_it_leaves_and_to_save(rayjob):
    for pod in pods_of(rayjob):
        container = container_of(pod)
        *command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
        assert command == ["python", "-m", "cluster.drain_node", "--seconds"]
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        waits = (int(seconds), int(variables.get("RAY_JOB_STOP_WAIT_TIME_S", 0)))
        assert max(waits) < pod["spec"]["terminationGracePeriodSeconds"]


def test_versions_are_those_of_the_project(rayjob):
    pinned = re.search(r"^ray==(\S+) ", (ROOT / ".ci/locks/run.txt").read_text(), flags=re.MULTILINE)
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]
    version = re.search(r'^version = "(\S+)"$', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert {container_of(pod)["image"] for pod in pods_of(rayjob)} == {f"spe-dist:{version[1]}"}


def test_ray_knows_the_variables_that_are_set_for_it(rayjob, aws):
    text = str(rayjob) + str(aws)
    names = set(re.findall(r"\bRAY_[A-Z_]+", text)) - {"RAY_HEAD_IP"}  # that one is set by the launcher itself
    assert names == {"RAY_JOB_STOP_WAIT_TIME_S", "RAY_AUTH_MODE"}
    read_by = {"RAY_JOB_STOP_WAIT_TIME_S": "dashboard/modules/job/job_supervisor.py", "RAY_AUTH_MODE": "_raylet.so"}
    for name, file in read_by.items():
        assert name.encode() in (RAY / file).read_bytes()


def test_the_aws_cluster_fits_rays_schema(aws):
    jsonschema.Draft7Validator(RAY_SCHEMA).validate(aws)
    assert aws["head_node_type"] in aws["available_node_types"]


@pytest.mark.parametrize("path", [(), ("available_node_types", "gpu_spot"), ("docker",), ("auth",)])
def test_a_typo_in_the_aws_cluster_is_refused(aws, path):
    part = aws = copy.deepcopy(aws)
    for step in path:
        part = part[step]
    part["max_worker"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(RAY_SCHEMA).validate(aws)


def test_the_aws_cluster_has_room_for_the_run_and_its_ranks_are_on_spot_machines(aws, config):
    types = dict(aws["available_node_types"])
    head = types.pop(aws["head_node_type"])
    assert head["resources"] == {"CPU": 0} and "InstanceMarketOptions" not in head["node_config"]
    ((_, workers),) = types.items()
    assert workers["resources"]["GPU"] == config.cluster.gpus_per_worker
    assert workers["resources"]["CPU"] >= config.cluster.cpus_per_worker
    assert (workers["min_workers"], workers["max_workers"]) == (config.cluster.min_workers, config.cluster.workers)
    assert aws["max_workers"] == workers["max_workers"]
    assert workers["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_ray_takes_the_start_commands_of_the_aws_cluster_and_the_dashboard_is_on_loopback(aws):
    head, worker = (
        ray_start.make_context("start", shlex.split(command)[shlex.split(command).index("start") + 1 :]).params
        for (_, command) in (aws["head_start_ray_commands"], aws["worker_start_ray_commands"])
    )
    assert head["head"] and head["dashboard_host"] == "127.0.0.1" and head["port"] == 6379
    assert worker["address"] == "$RAY_HEAD_IP:6379" and not worker["head"]
    assert "0.0.0.0" not in str(aws)
