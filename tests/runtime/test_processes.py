"""Several processes, for real: they start, compute the same as one, wait for each other, and end together."""

import os
import signal
import time

import numpy as np
import pytest

from segfusion_jax.runtime import processes
from tests import one_process
from tests.training import toy


def end(running, *, timeout=300):
    """Standard output, standard error and exit status of each process."""
    return [(*process.communicate(timeout=timeout), process.returncode) for process in running]


def wait_until_ready(folder, running):
    while len(list(folder.glob("ready_*"))) < len(running):
        assert all(process.poll() is None for process in running), end(running)
        time.sleep(0.1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder that one process with eight devices and two with four have written."""
    folder = tmp_path_factory.mktemp("trained")
    for running in (one_process.start(folder, "alone", count=1, devices=8), one_process.start(folder, "together")):
        for _, errors, status in end(running):
            assert status == 0, errors
    return folder


@pytest.mark.parametrize("problem", one_process.PROBLEMS)
@pytest.mark.parametrize("way", ["8_shard_map", "8_pmap", "2x4_0", "2x4_1"])
def test_networks_train_alike_on_any_devices(trained, problem, way):
    # Activations and their gradients' sums are about 1: an array whose own size is below 0.1, such as a bias after five
    # steps, or one whose gradient is zero but for rounding, is compared at 0.1.
    one, others = np.load(trained / f"{problem}_1.npz"), np.load(trained / f"{problem}_{way}.npz")
    assert sorted(one) == sorted(others)
    for name in one:
        scale = max(np.abs(one[name]).max(), 0.1)
        np.testing.assert_allclose(others[name], one[name], rtol=0, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("problem", one_process.PROBLEMS)
def test_these_networks_learn(trained, problem):
    arrays = np.load(trained / f"{problem}_1.npz")
    trainable = [name for name in arrays if name.startswith("['trained'][0]")]
    assert max(np.abs(arrays[name] - arrays[name.replace("trained", "initial")]).max() for name in trainable) > 1e-3
    assert (np.diff(arrays["losses"]) < 0).all()


@pytest.mark.parametrize("length", one_process.LENGTHS)
def test_each_example_is_predicted_once(trained, length):
    examples = toy.examples(length)
    for process in range(2):
        predicted = np.load(trained / f"predicted_{length}_{process}.npz")
        assert predicted["names"].tolist() == [row.image_id for row in examples.rows]
        means = [2 * examples[i]["image"].mean() for i in range(length)]
        np.testing.assert_allclose(predicted["values"], means, rtol=1e-5)


def test_all_agree_on_the_step_at_which_one_says_so(trained):
    for process in range(2):
        agreed = np.load(trained / f"agreed_{process}.npz")
        assert np.flatnonzero(agreed["answers"]).tolist() == [3]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """How scenarios end, started at once."""
    folder = tmp_path_factory.mktemp("ended")
    running = {name: one_process.start(folder, name) for name in ("raises", "bug")}
    return {name: end(both) for name, both in running.items()}


def test_an_error_in_one_ends_all_with_its_name(ended):
    (_, other, other_status), (_, erring, erring_status) = ended["raises"]
    assert (other_status, erring_status) == (1, 1)
    assert other.endswith("error: process 1 of 2 ended: disk full\n")
    assert erring.endswith("error: disk full\n") and "Traceback" not in erring + other


def test_a_bug_in_the_lead_ends_all_with_its_traceback(ended):
    (_, erring, erring_status), (_, other, other_status) = ended["bug"]
    assert (other_status, erring_status) == (1, 1)
    assert "Traceback" in erring and erring.endswith("error: TypeError: a mistake\n")
    assert other.endswith("error: process 0 of 2 ended: TypeError: a mistake\n")


def assert_names(errors: list[str], victim: int) -> None:
    """In the runtime's words, or in ours."""
    for text in errors:
        if victim:
            assert f"stopped sending heartbeats):\n{victim}\n" in text
        else:
            assert "leader (usually slice 0 task 0)" in text or "error: process 0 of" in text


def outlive(folder, scenario, victim, how, *, heartbeat, count=2):
    """Kills or freezes one process; seconds until the others have ended, and what they said."""
    running = one_process.start(folder, scenario, f"--heartbeat={heartbeat}", count=count, devices=2)
    dead = running.pop(victim)
    try:
        wait_until_ready(folder, [*running, dead])
        time.sleep(1)
        begin = time.monotonic()
        os.kill(dead.pid, how)
        results = end(running)
        assert all(status not in (0, None) for *_, status in results)
        return time.monotonic() - begin, [errors for _, errors, _ in results]
    finally:
        dead.kill()
        dead.communicate()


@pytest.mark.parametrize(("victim", "seconds"), [(0, 15), (1, 25)])
def test_a_killed_process_takes_the_others_down(tmp_path, victim, seconds):
    took, errors = outlive(tmp_path, "step", victim, signal.SIGKILL, heartbeat=6)
    assert took < seconds
    assert_names(errors, victim)


@pytest.mark.faults
@pytest.mark.parametrize("scenario", ["step", "wait", "compute"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("victim", [0, 1])
def test_others_end_in_time_and_name_the_dead(tmp_path, scenario, how, victim):
    count = 3 if scenario == "wait" else 2
    took, errors = outlive(tmp_path, scenario, victim, how, heartbeat=processes.HEARTBEAT_SECONDS, count=count)
    print(f"{scenario}, {how.name} of {victim}: {took:.1f} s")
    assert took < processes.SECONDS_TO_END
    assert_names(errors, victim)


@pytest.mark.faults
def test_a_slow_lead_is_waited_for(tmp_path):
    for output, errors, status in end(one_process.start(tmp_path, "slow_lead")):
        assert status == 0, errors
        assert "agreed True" in output


def test_a_signal_reaches_its_handler_and_strays_are_told(tmp_path):
    running = one_process.start(tmp_path, "terminated")
    while not (tmp_path / "ready_1").exists():
        assert all(process.poll() is None for process in running), end(running)
        time.sleep(0.1)
    time.sleep(0.5)
    running[1].send_signal(signal.SIGTERM)
    (tmp_path / "signalled").touch()
    results = end(running)
    assert [output.splitlines()[-1] for output, *_ in results] == ["asked False", "asked True"]
    for _, errors, status in results:
        assert status == 1
        assert "different points of the run: process 0 at 'segment', process 1 at 'bridge'" in errors


def test_a_signal_to_one_outside_of_a_training_ends_all_with_its_status(tmp_path):
    running = one_process.start(tmp_path, "idle")
    wait_until_ready(tmp_path, running)
    begin = time.monotonic()
    running[1].send_signal(signal.SIGTERM)
    (_, first, status), (_, second, own_status) = end(running)
    assert (status, own_status) == (75, 75) and time.monotonic() - begin < 20
    assert second.endswith("stopped by SIGTERM; the same command goes on\n")
    assert first.endswith("process 1 of 2 ended: stopped by SIGTERM; the same command goes on\n")


def cluster(kind: str, process: int) -> dict[str, str]:
    """What Slurm or Open MPI tells a process of a job of two on this machine."""
    job, index = os.getpid(), str(process)
    if kind == "slurm":
        values = {"JOB_ID": str(job), "STEP_NODELIST": "localhost", "NTASKS": "2", "PROCID": index, "LOCALID": index}
        return {f"SLURM_{name}": value for name, value in values.items()}
    values = {"COMM_WORLD_SIZE": "2", "COMM_WORLD_RANK": index, "COMM_WORLD_LOCAL_RANK": index}
    uri = f"{(job + 1) * 4096}.0;tcp://127.0.0.1:1"  # of which the port is made, which Slurm's must not be
    return {f"OMPI_{name}": value for name, value in (values | {"MCA_orte_hnp_uri": uri}).items()}


def test_the_environment_tells_who_takes_part(tmp_path):
    auto = ("--scenario=greet", "--coordinator=auto")
    slurm, mpi = ([one_process.run(tmp_path, *auto, **cluster(kind, i)) for i in range(2)] for kind in ("slurm", "mpi"))
    nothing = one_process.run(tmp_path, *auto)
    for running in (slurm, mpi):
        for process, (output, errors, status) in enumerate(end(running)):
            assert status == 0, errors
            assert f"process {process} of 2, True\n" in output
    ((_, errors, status),) = end([nothing])
    assert status == 1
    assert "error: --coordinator=auto: neither Slurm, Open MPI, Kubernetes nor Cloud TPU tell" in errors
    assert errors.endswith("Give --coordinator=HOST:PORT --num_processes=N --process=I\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", 2, 0), "--coordinator=HOST:PORT"),
        (("", 0, 1), "--coordinator=HOST:PORT"),
        (("auto", 2, 0), "not 'auto'"),
        (("node0", 2, 0), "--coordinator=node0: must be HOST:PORT"),
        (("node0:80", 0, 0), "--num_processes=0: must be at least 1"),
        (("node0:80", 2, 2), "--process=2: must be from 0 to 1"),
        (("node0:80", 2, -1), "--process=-1: must be from 0 to 1"),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        processes.join(*arguments)
