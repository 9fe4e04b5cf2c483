"""Hooks that make Schemathesis use an existing model and request few tokens."""

import json
import os
import urllib.parse
import urllib.request

import schemathesis

MODEL = "tiny"
MOST_TOKENS = 8
BOUNDS = {
    "/v1/chat/completions": ["max_tokens", "max_completion_tokens"],
    "/v1/completions": ["max_tokens"],
    "/v1/responses": ["max_output_tokens"],
}
DRAIN = "PUT /admin/nodes/{id}/drain"
UPDATE = "POST /admin/updates"
CANCEL = "POST /admin/updates/{id}/cancel"
# By operation, what a request names so that it is answered with what there is.
NAMED = json.loads(os.environ.get("COPAL_NAMED", "{}"))
ANSWERS = open(os.environ["COPAL_ANSWERS"], "w", encoding="utf-8")


@schemathesis.hook
def map_body(context, body):
    """Changes only values that the schema allows: wrong values stay wrong."""
    if not isinstance(body, dict):
        return body
    body = dict(body)
    model = body.get("model")
    if isinstance(model, str) and 0 < len(model) <= 256:
        body["model"] = MODEL
    for index, bound in enumerate(BOUNDS.get(context.operation.path, [])):
        value = body.get(bound)
        if value is None and index == 0 or type(value) is int and MOST_TOKENS < value <= 1_000_000:
            body[bound] = MOST_TOKENS
    return body


@schemathesis.hook
def before_call(context, case, kwargs):
    """Sets the named resources. Everything else stays as generated from the schema."""
    named = NAMED.get(case.operation.label, {})
    if NAMED and case.operation.label == CANCEL:
        named = {"path": {"id": ask(case, "POST", "/admin/updates", NAMED[UPDATE]["body"])["id"]}}
    case.path_parameters.update(named.get("path", {}))
    case.query.update(named.get("query", {}))
    if "file" in named:
        with open(named["file"], "rb") as file:
            case.body = file.read()
    elif isinstance(case.body, dict):
        case.body = {**case.body, **named.get("body", {})}


@schemathesis.hook
def after_call(context, case, response):
    """Writes a line for each response, from which the test counts statuses."""
    print(json.dumps([case.operation.label, response.status_code]), file=ANSWERS, flush=True)
    if case.operation.label == DRAIN and response.status_code == 200:
        # Ids are learnt from answers, and without its only node the service rightly says 503.
        ask(case, "DELETE", response.request.path_url)
    if case.operation.label == UPDATE and response.status_code == 201:
        # While it runs there is no other, and nothing is deleted.
        ask(case, "POST", f"/admin/updates/{response.json()['id']}/cancel")


def ask(case, method, path, body=None):
    """Returns the response of the service to the operator."""
    url = urllib.parse.urljoin(case.operation.base_url, path)
    headers = {"authorization": f"Bearer {os.environ['COPAL_KEY']}"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)) as answer:
        return json.load(answer)
