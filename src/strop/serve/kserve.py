"""KServe: the service that runs an image, or a model repository, on Kubernetes."""

from __future__ import annotations

from ..target import Target

SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: "{name}"
spec:
  predictor:
"""
IMAGE = """\
    containers:
      - name: kserve-container
        image: "{image}"  # under the name by which the cluster finds it
        ports:
          - containerPort: 8080
            protocol: TCP
        readinessProbe:
          httpGet:
            path: "/v2/models/{name}/ready"
            port: 8080
        securityContext:
          allowPrivilegeEscalation: false
          runAsNonRoot: true
        resources:
          requests: &cores
            cpu: "{cores}"
          limits: *cores
"""
REPOSITORY = """\
    model:
      modelFormat:
        name: triton
      runtime: kserve-tritonserver
      protocolVersion: v2
      storageUri: "pvc://{name}/models"  # where the folder models lies
      resources:
        requests: &cores
          cpu: "{cores}"
        limits: *cores
"""


def service(name: str, target: Target, image: str | None = None) -> str:
    """The YAML of a service, with as many cores as the bundle was measured on.

    Args:
        name: Of the model, checked.
        target: The bundle's.
        image: What is run; without it Triton on a model repository.
    """
    body = IMAGE if image else REPOSITORY
    return (SERVICE + body).format(name=name, image=image, cores=target.threads)
