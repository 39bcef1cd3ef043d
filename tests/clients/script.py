"""TorchServe's API as scripts of its users call it: once with `requests`, once with Python's own `urllib.request`."""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

LIBRARY = sys.argv[1]
INFERENCE, MANAGEMENT, METRICS = (os.environ[name] for name in ("INFERENCE", "MANAGEMENT", "METRICS"))
PATIENCE = float(os.environ.get("SCONCE_TEST_PATIENCE", "60"))


class Reply:
    def __init__(self, status, headers, content):
        self.status, self.headers, self.content = status, headers, content
        self.text = content.decode()

    def json(self):
        return json.loads(self.content)


def with_requests(method, url, **how):
    import requests

    reply = requests.request(method, url, timeout=PATIENCE, **how)
    return Reply(reply.status_code, reply.headers, reply.content)


def with_urllib(method, url, params=None, data=None, files=None, headers=None, **how):
    headers = dict(headers or {})
    if params:
        url += "?" + urllib.parse.urlencode(params)
    if "json" in how:
        data = json.dumps(how["json"]).encode()
        headers["Content-Type"] = "application/json"
    elif files:
        headers["Content-Type"] = "multipart/form-data; boundary=frontier"
        data = b""
        for name, file in files.items():
            file_name = os.path.basename(file.name)
            data += f'--frontier\r\nContent-Disposition: form-data; name="{name}"; filename="{file_name}"\r\n\r\n'.encode()
            data += file.read() + b"\r\n"
        data += b"--frontier--\r\n"
    elif data is not None:
        data = data if isinstance(data, bytes) else data.read()
        # It would else say that this is a form.
        headers.setdefault("Content-Type", "application/octet-stream")
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            return Reply(reply.status, reply.headers, reply.read())
    except urllib.error.HTTPError as error:
        return Reply(error.code, error.headers, error.read())


call = with_requests if LIBRARY == "requests" else with_urllib


def key(kind):
    with open("key_file.json") as file:
        return json.load(file)[kind]["key"]


def bearer(kind):
    return {"Authorization": f"Bearer {key(kind)}"}


def infer(method, path, **how):
    return call(method, INFERENCE + path, headers=bearer("inference"), **how)


def manage(method, path, **how):
    return call(method, MANAGEMENT + path, headers=bearer("management"), **how)


def equal(found, expected):
    assert found == expected, f"{found!r} instead of {expected!r}"


def status(reply, code, text):
    equal((reply.status, reply.text), (code, json.dumps({"status": text}, indent=2) + "\n"))
    equal(reply.headers["Content-Type"], "application/json")


def error(reply, code, kind, text):
    equal(reply.status, code)
    equal(list(reply.json().items()), [("code", code), ("type", kind), ("message", text)])


def until(what, look):
    end = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < end, f"waited in vain for {what}"


def workers(model):
    return [worker["status"] for worker in manage("GET", f"/models/{model}").json()[0]["workers"]]


# Tokens.
REFUSED = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
error(call("GET", INFERENCE + "/ping"), 400, "InvalidKeyException", REFUSED)
error(call("GET", MANAGEMENT + "/models", headers=bearer("inference")), 400, "InvalidKeyException", REFUSED)
status(infer("GET", "/ping"), 200, "Healthy")
equal(manage("GET", "/models").json(), {"models": []})

# Register: by a query, by JSON, in the background, once more, and what isn't there.
query = {"url": "noop.mar", "model_name": "noop", "initial_workers": 1, "synchronous": "true", "batch_size": 2}
status(manage("POST", "/models", params=query), 200, 'Model "noop" Version: 1.11 registered with 1 initial workers')
error(
    manage("POST", "/models", params=query),
    409,
    "ConflictStatusException",
    "Model version 1.11 is already registered for model noop",
)
body = {"url": "mnist.mar", "initial_workers": 1, "synchronous": False, "max_batch_delay": 5}
status(manage("POST", "/models", json=body), 202, "Processing worker updates...")
until("mnist", lambda: workers("mnist") == ["READY"])
error(manage("POST", "/models", params={"url": "no.mar"}), 404, "ModelNotFoundException", "Model not found at: no.mar")
error(manage("POST", "/models"), 400, "BadRequestException", "Parameter url is required.")

# Scale.
status(manage("PUT", "/models/noop", params={"min_worker": 2}), 202, "Processing worker updates...")
until("two workers", lambda: workers("noop") == ["READY", "READY"])
scale = {"min_worker": 1, "max_worker": 1, "synchronous": True}
status(manage("PUT", "/models/noop", params=scale), 200, "Workers scaled to 1 for model: noop")
status(manage("PUT", "/models/noop/1.11", params=scale), 200, "Workers scaled to 1 for model: noop, version: 1.11")
error(
    manage("PUT", "/models/noop", params={"min_worker": 3, "max_worker": 1}),
    400,
    "BadRequestException",
    "max_worker cannot be less than min_worker.",
)

# Describe and list.
described = manage("GET", "/models/noop").json()[0]
equal([described[name] for name in ("modelName", "modelVersion", "modelUrl")], ["noop", "1.11", "noop.mar"])
equal([described[name] for name in ("minWorkers", "maxWorkers", "batchSize")], [1, 1, 2])
equal(manage("GET", "/models/mnist/1.0").json()[0]["maxBatchDelay"], 5)
error(manage("GET", "/models/nobody"), 404, "ModelNotFoundException", "Model not found: nobody")
page = manage("GET", "/models", params={"limit": 1}).json()
equal(page, {"nextPageToken": "1", "models": [{"modelName": "mnist", "modelUrl": "mnist.mar"}]})
page = manage("GET", "/models", params={"limit": 1, "next_page_token": page["nextPageToken"]}).json()
equal(page, {"models": [{"modelName": "noop", "modelUrl": "noop.mar"}]})

# Predict: a file as it is, a file in a form, bytes, JSON.
with open("7.png", "rb") as file:
    equal(infer("POST", "/predictions/mnist", data=file).text, "SEVEN")
with open("7.png", "rb") as file:
    equal(infer("POST", "/predictions/mnist/1.0", files={"data": file}).text, "SEVEN")
equal(infer("PUT", "/predictions/mnist", data=b"eight").text, "EIGHT")
equal(infer("POST", "/predictions/noop", json=[1, 2]).json(), [1, 2])
error(infer("POST", "/predictions/nobody", data=b""), 404, "ModelNotFoundException", "Model not found: nobody")
assert len(infer("GET", "/ping").headers["x-request-id"]) == 36

# Explanations, and both of KServe's protocols.
equal(infer("POST", "/explanations/mnist", data=b"seven").json(), {"letters": 5})
equal(infer("POST", "/v1/models/noop:predict", json={"instances": [1]}).json(), {"instances": [1]})
equal(infer("POST", "/v1/models/mnist:explain", data=b"seven").json(), {"letters": 5})
equal(manage("GET", "/v1/models/mnist").json(), {"name": "mnist", "ready": True})
tensor = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}]}
equal(infer("POST", "/v2/models/noop/infer", json=tensor).json(), tensor)
equal(infer("GET", "/v2/health/ready").json(), {"ready": True})

# Versions.
query = {"url": "noop_2.mar", "initial_workers": 1, "synchronous": "true"}
status(manage("POST", "/models", params=query), 200, 'Model "noop" Version: 2.0 registered with 1 initial workers')
equal(infer("POST", "/predictions/noop", data=b"x").text, "x")
equal(infer("POST", "/predictions/noop/2.0", data=b"x").text, "X")
status(
    manage("PUT", "/models/noop/2.0/set-default"),
    200,
    'Default version successfully updated for model "noop" to "2.0"',
)
equal(infer("POST", "/predictions/noop", data=b"x").text, "X")
equal([one["modelVersion"] for one in manage("GET", "/models/noop/all").json()], ["1.11", "2.0"])
error(
    manage("DELETE", "/models/noop"),
    403,
    "InvalidModelVersionException",
    "Cannot remove default version for model noop",
)

# Metrics, which ask for no token.
metrics = call("GET", METRICS + "/metrics", params={"name[]": "ts_inference_requests_total"})
equal(metrics.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
lines = [line for line in metrics.text.splitlines() if 'model_name="mnist"' in line and 'model_version="default"' in line]
equal([float(line.rsplit(" ", 1)[1]) for line in lines], [4.0])

# Renewed tokens.
before = bearer("inference")
reply = call("GET", MANAGEMENT + "/token", params={"type": "inference"}, headers=bearer("API"))
equal((reply.status, reply.text), (200, "\n"))
error(call("GET", INFERENCE + "/ping", headers=before), 400, "InvalidKeyException", REFUSED)
status(infer("GET", "/ping"), 200, "Healthy")

# Unregister.
for path, model in [("/models/noop/1.11", "noop"), ("/models/noop", "noop"), ("/models/mnist/1.0", "mnist")]:
    status(manage("DELETE", path), 200, f'Model "{model}" unregistered')
error(manage("DELETE", "/models/noop"), 404, "ModelNotFoundException", "Model not found: noop")
print(f"all is well with {LIBRARY}")
