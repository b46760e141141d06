"""Jobs as forks of one process that has imported everything: a try costs no start.

A program: python -m tests.forked_jobs reads one order a line from stdin and answers each with one
line. Every order runs in a fork of its own, which a kill ends as it would end a job.
"""

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class ForkedJobs:
    """The other end of the program; a context manager.

    Every answer is {"code": exit code, -9 where it was killed; "out" and "err": what was printed,
    "said": both; "writes": descriptions of its changes of the disk; "seconds"}.
    """

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked_jobs"], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *exception):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, folder, **order):
        self._process.stdin.write(json.dumps({"folder": str(folder), **order}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def run(self, folder, *arguments, since="", kill_at=None, full_at=None, kill_after=None):
        """Run a job.

        Args:
            folder: where it is started.
            arguments: its name, then its command line.
            since: writes are counted from the first one with this in its description.
            kill_at: the write that it is killed before; None for none.
            full_at: the write from which on the disk is full; None for never.
            kill_after: seconds until it is killed; None for never.
        """
        return self._ask(folder, arguments=arguments, since=since, kill_at=kill_at,
                         full_at=full_at, kill_after=kill_after)

    def stop_before_the_end(self, folder, *arguments):
        """Run a job, in the program itself, up to where it publishes; then `end` alone is left."""
        answer = self._ask(folder, arguments=arguments, stop=True)
        assert answer["code"] is None, answer["said"]

    def end(self, folder, kill_at=None):
        """What the stopped job has left to do, in the folder as it is now; by a fork of it."""
        return self._ask(folder, since="", kill_at=kill_at, full_at=None, kill_after=None)


def _start_counting(order, told):
    """Write every change of the disk to the file descriptor `told`, and end at the one ordered."""
    from tests.tiny_versions import before_writes

    seen = 0

    def count(what):
        nonlocal seen
        if not seen and order["since"] not in what:
            return
        seen += 1
        os.write(told, f"{what}\n".encode())
        if seen == order["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        # A full disk still lets names be changed and taken away.
        if order["full_at"] and seen >= order["full_at"] and what.startswith(
                ("open", "os.mkdir", "commit")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), what.partition(" ")[2])

    before_writes(count)


def _in_fork(order, work):
    """Run `work` in a fork; what is to be answered."""
    began = time.monotonic()
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = 99
            try:
                os.chdir(order["folder"])
                _start_counting(order, writer)
                work()
                code = 0
            except SystemExit as error:
                code = error.code
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        os.close(writer)
        timer = threading.Timer(order["kill_after"] or 0, os.kill, (child, signal.SIGKILL))
        if order["kill_after"]:
            timer.start()
        with os.fdopen(reader) as pipe:
            writes = pipe.read().splitlines()
        timer.cancel()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        printed = []
        for file in (out, err):
            file.seek(0)
            printed.append(file.read().decode())
        return {"code": code, "out": printed[0], "err": printed[1], "said": "".join(printed),
                "writes": writes, "seconds": time.monotonic() - began}


def _job(order):
    """The command, to its exit."""
    from dualdnn.export import latency
    from pipelines import challenge, reporting
    from pipelines.entry import start

    def of_no_interest(folders, inputs, *, calls=60, trees=None):
        return {name: dict.fromkeys(latency.BATCH_SIZES, 1e-3) for name in folders}

    # Speeds write nothing, and a process that measures them takes as long as the rest of the job.
    challenge.measure_latency = reporting.measure_latency = of_no_interest
    job, *rest = order["arguments"]
    sys.argv = [job, *rest]
    start(job, importlib.import_module(f"pipelines.{job}").main)


def _stop_at_the_end(order, orders, answer):
    """Become the job; where it would publish, answer orders by forks that do."""
    from pipelines import finetune, retrain

    concludes = retrain.conclude

    def conclude_in_forks(*positional, **named):
        answer({"code": None, "said": "", "writes": [], "seconds": 0.0})
        for one in orders:
            answer(_in_fork(json.loads(one), lambda: concludes(*positional, **named)))
        os._exit(0)

    # No connection lives on in a fork, where it would belong to a database that is replaced.
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
    retrain.conclude = finetune.conclude = conclude_in_forks
    os.chdir(order["folder"])
    with open("said", "w+") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        try:
            _job(order)
        except SystemExit as error:  # it did not come as far as that
            said.seek(0)
            answer({"code": error.code, "said": said.read(), "writes": [], "seconds": 0.0})


def main():
    """Answer orders until there are no more."""
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
    for job in ("train", "evaluate", "export", "retrain", "finetune", "backtest", "publish"):
        importlib.import_module(f"pipelines.{job}")
    os.fsync = lambda descriptor: None  # slow, and a kill loses nothing that the kernel has
    out = os.fdopen(os.dup(1), "w")

    def answer(values):
        print(json.dumps(values), file=out, flush=True)

    for line in sys.stdin:
        order = json.loads(line)
        if order.get("stop"):
            _stop_at_the_end(order, sys.stdin, answer)
        else:
            answer(_in_fork(order, lambda order=order: _job(order)))


if __name__ == "__main__":
    main()
