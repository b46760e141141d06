"""Versions of a model without a model: whoever publishes them looks at their digests alone.

Also a program, so that tests can kill it: python -m tests.tiny_versions --help
"""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from dualdnn.export.candidate import publish_candidate
from dualdnn.export.champion import champion_of
from dualdnn.export.promotion import promote, repair, rollback, set_canary
from dualdnn.export.retention import prune
from dualdnn.export.versions import versions_of

NAME = "feed"


def write_version(path, version, *, text="weights", **manifest):
    """A sound version folder."""
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_text(f"graph {version}")
    (path / "variables" / "variables.index").write_text(f"{text} {version}")
    digests = {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
               for file in path.rglob("*") if file.is_file()}
    (path / "manifest.json").write_text(
        json.dumps({**manifest, "version": version, "sha256": digests}))


class Store:
    """`exported_models/feed` and its training states below one folder."""

    def __init__(self, root, *, registry=False):
        self.root = Path(root)
        self.folder = self.root / "exported_models" / NAME
        self.state = self.root / "state" / NAME
        self.outputs = self.root / "outputs"
        self.registry = self.make_registry() if registry else None

    def make_registry(self):
        from dualdnn.tracking import MlflowRegistry, default_uri  # slow to import

        return MlflowRegistry(uri=default_uri(self.outputs), outputs=self.outputs)

    @property
    def where(self):
        return {"state": self.state, "registry": self.registry}

    def add(self, *versions, state=True, **manifest):
        for version in versions:
            if state:
                self.write_state(self.state / str(version), version)
            write_version(self.folder / str(version), version, **manifest)

    @staticmethod
    def write_state(path, version="new"):
        path.mkdir(parents=True, exist_ok=True)
        (path / "row_map").write_text(f"rows {version}")

    def publish(self, reason="accepted", replaces=None):
        return publish_candidate(
            candidate=self.root / "run" / "candidate", write_state=self.write_state,
            folder=self.folder, state=self.state, reason=reason, registry=self.registry,
            replaces=replaces)

    def promote(self, version, reason="tested"):
        return promote(self.folder, version, reason, **self.where)

    def rollback(self, version=None):
        return rollback(self.folder, version, **self.where)

    def prune(self, keep):
        return prune(self.folder, self.state, keep=keep, registry=self.registry)

    def repair(self):
        return repair(self.folder, **self.where)

    def set_canary(self, version):
        return set_canary(self.folder, version, **self.where)

    def served(self):
        """Versions and labels of models.config, as the server reads them."""
        config = text_format.Parse((self.folder / "models.config").read_text(),
                                   model_server_config_pb2.ModelServerConfig())
        (model,) = config.model_config_list.config
        assert (model.name, model.base_path) == (NAME, str(self.folder))
        return (list(model.model_version_policy.specific.versions), dict(model.version_labels))

    def registered(self):
        """Version that the alias points at, and all that are registered; by our numbers."""
        from mlflow import MlflowClient

        from dualdnn.tracking import default_uri

        client = MlflowClient(tracking_uri=default_uri(self.outputs))
        found = {model.version: int(model.tags["dualdnn.version"])
                 for model in client.search_model_versions(f"name='{NAME}'")}
        if not found:
            return None, []
        alias = client.get_registered_model(NAME).aliases.get("champion")
        return None if alias is None else found[type(next(iter(found)))(alias)], sorted(
            found.values())

    def statuses(self):
        return {one.version: one.status for one in versions_of(self.folder)}

    def looked_at(self):
        """All that a reader, a server and an operator can see, as JSON-able values."""
        champion = champion_of(self.folder)
        return {
            "champion": champion and champion.version,
            "previous": champion and champion.previous,
            "training_state": champion and champion.training_state,
            "served": self.served() if (self.folder / "models.config").exists() else None,
            "registered": self.registered() if self.registry else None,
            "statuses": self.statuses(),
            "states": sorted(int(path.name) for path in self.state.iterdir()
                             if path.name.isdecimal() and (path / "row_map").exists()),
            "left": sorted(path.name for parent in (self.folder, self.state)
                           for path in parent.glob(".tmp-*")),
        }


ACTIONS = {
    "promote": lambda store: store.promote(5),
    "rollback": lambda store: store.rollback(),
    "rollback_to": lambda store: store.rollback(1),
    "canary": lambda store: store.set_canary(5),
    "prune": lambda store: store.prune(1),
    "publish": lambda store: store.publish(),
}


def make_store(root, *, registry):
    """Versions 1 to 5, champions 2, 3 and 4 one after another, and a candidate in a run folder."""
    store = Store(root, registry=registry)
    store.add(1, 2, 3, 4, 5)
    (store.folder / ".last_version").write_text("5")
    write_version(store.root / "run" / "candidate", 1, text="candidate")
    for version in (2, 3, 4):
        store.promote(version)
    return store


def _in_child(action):
    """What `action` returns in a fork of this process; None if that was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            with os.fdopen(writer, "w") as pipe:
                json.dump(action(), pipe)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return json.loads(answer) if status == 0 else None


_WRITES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link"}


def before_writes(call):
    """Call `call` with a description before every change of the disk that this process makes."""

    def hook(event, arguments):
        if event in _WRITES or (event == "open" and isinstance(arguments[2], int)
                                and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            call(f"{event} {arguments[0]}")
        elif event == "ctypes.dlsym" and arguments[1] == "renameat2":  # looked up to be called
            call("exchange")

    sys.addaudithook(hook)
    if "sqlalchemy" in sys.modules:  # sqlite writes below Python
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        event.listen(Engine, "commit", lambda connection: call("commit"))


def kill_at_write(last):
    """End this process just before its `last`-th change of the disk."""
    seen = 0

    def count(what):
        nonlocal seen
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)

    before_writes(count)


def _kill_at_line(last):
    """End this process at the `last`-th line of the code that changes the disk."""
    seen = 0
    own = ("storage.py", "shutil.py", "tracking.py", "candidate.py", "champion.py", "promotion.py",
           "retention.py", "versions.py")

    def tracer(frame, event, argument):
        nonlocal seen
        if not frame.f_code.co_filename.endswith(own):
            return None
        seen += event == "line"
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return tracer

    sys.settrace(tracer)


def killed_at_every_point(root, action, *, registry, lines, stride=1):
    """For every point: what stands after the kill, after the next command, and after a retry."""
    if registry:
        # Once, not in every fork.
        import mlflow.store.model_registry.sqlalchemy_store
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

        import dualdnn.tracking  # noqa: F401
    template, work = root / "template", root / "work"

    def make():
        make_store(work, registry=registry)

    _in_child(make)
    work.rename(template)
    found, last = [], 1
    while True:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(template, work)

        def acted(last=last):
            store = Store(work, registry=registry)
            (_kill_at_line if lines else kill_at_write)(last)
            ACTIONS[action](store)
            sys.settrace(None)
            return "done"

        def repaired():
            store = Store(work, registry=registry)
            store.repair()
            return store.looked_at()

        def repeated():
            store = Store(work, registry=registry)
            ACTIONS[action](store)
            return store.looked_at()

        killed = _in_child(acted) is None
        before = _in_child(lambda: Store(work, registry=registry).looked_at())
        found.append({"killed": killed, "before": before, "after": _in_child(repaired)})
        if action != "rollback":  # a second one means something else
            found[-1]["again"] = _in_child(repeated)
        if not killed:
            return found
        last += stride


def main():
    parser = argparse.ArgumentParser(description="Kill a command at every point; print the rest.")
    parser.add_argument("root", type=Path, help="an empty folder")
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--registry", action="store_true", help="with mlflow")
    parser.add_argument("--lines", action="store_true", help="at every line, not at every write")
    parser.add_argument("--stride", type=int, default=1)
    given = parser.parse_args()
    os.fsync = lambda descriptor: None  # slow, and a kill loses nothing that the kernel has
    print(json.dumps(killed_at_every_point(given.root, given.action, registry=given.registry,
                                           lines=given.lines, stride=given.stride)))


if __name__ == "__main__":
    main()
