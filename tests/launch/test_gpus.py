"""Which GPUs a process may use, as CUDA and the driver say."""

import pytest

from launch.gpus import gpus_here, visible_gpus

UUIDS = ("GPU-aa01-1", "GPU-aa02-2", "GPU-bb03-3", "GPU-cc04-4")


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        ("0,1,2,3", [0, 1, 2, 3]), ("3,1", [3, 1]), (" 2 , 0 ", [2, 0]),
        ("", []), ("-1", []), ("NoDevFiles", []), ("none", []), ("all", []), (",0", []), ("+1", [1]),
        ("0,-1,1", [0]), ("2,99", [2]), ("99,2", []), ("1,,2", [1]), ("0,x,1", [0]), ("0 1", [0]), ("1x", [1]),
        ("1,1", []), ("0,1,0", []), ("0,GPU-aa01", []),
        ("GPU-bb", [2]), ("GPU-cc04-4,GPU-aa01", [3, 0]), ("GPU-aa", []), ("GPU-dd,0", []), ("0,GPU-bb03-3", [0, 2]),
        ("GPU-", []), ("gpu-bb", []), ("bb03", []),
    ],
)  # fmt: skip
def test_what_is_visible_is_what_cuda_makes_of_it(visible: str, indices: list[int]) -> None:
    assert visible_gpus(visible, UUIDS) == [UUIDS[index] for index in indices]


def test_of_mig_instances_a_process_has_one() -> None:
    assert visible_gpus("MIG-12ab,MIG-34cd", UUIDS) == ["MIG-12ab"]
    assert visible_gpus("1,MIG-12ab", UUIDS) == [UUIDS[1]]


def test_gpus_are_those_that_a_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 4)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda index: UUIDS[index])
    for visible, count in ((None, 4), ("0,2", 2), ("", 0), ("-1", 0), ("2,99", 1)):
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert gpus_here() == count

    def no_driver() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert gpus_here() == 0
