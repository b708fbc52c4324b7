"""torch.utils.data's imports move by changing the name of the package."""

import subprocess
import sys

import numpy as np
import pytest
from test_layout import ROOT

import minigrad as mg
import minigrad.utils.data as data
from minigrad.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split

SCRIPT = """
import {package} as torch
from {package}.utils.data import DataLoader, Dataset, SubsetRandomSampler, TensorDataset, random_split

class Squares(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, k):
        return torch.tensor([float(k)]), torch.tensor([float(k * k)])

whole = TensorDataset(torch.arange(10.0), torch.arange(10))
train, test = random_split(whole, [7, 3], generator=torch.Generator().manual_seed(0))
print(len(train), len(test), sorted(int(y) for part in (train, test) for _, y in part))
for x, y in DataLoader(Squares(), batch_size=4, shuffle=False, drop_last=True):
    print(list(x.shape), y.flatten().tolist())
for batch in torch.utils.data.DataLoader(Squares(), batch_size=5, sampler=SubsetRandomSampler([3])):
    print(batch[0].tolist())
print(torch.utils.data.default_collate([(1, 2.0), (3, 4.0)]))
"""

EXPECTED = [
    "7 3 [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]",
    "[4, 1] [0.0, 1.0, 4.0, 9.0]",
    "[4, 1] [16.0, 25.0, 36.0, 49.0]",
    "[[3.0]]",
    "[tensor([1, 3]), tensor([2., 4.], dtype=torch.float64)]",
]


@pytest.mark.parametrize("package", ["minigrad", "torch"])
def test_a_script_moves_by_changing_the_import(package, capsys):
    if package == "torch":
        pytest.importorskip("torch")
    exec(SCRIPT.format(package=package), {})
    assert capsys.readouterr().out.replace("minigrad.", "torch.").splitlines() == EXPECTED


def test_the_classes_are_those_of_minigrad_data():
    assert mg.utils.data is data
    assert all(getattr(data, name) is getattr(mg.data, name, data.default_collate) for name in data.__all__)
    assert {DataLoader, Dataset, Subset, TensorDataset, random_split} <= {
        getattr(mg.data, n) for n in mg.data.__all__
    }


def test_every_name_is_one_of_pytorchs():
    torch_data = pytest.importorskip("torch.utils.data")
    assert [name for name in data.__all__ if not hasattr(torch_data, name)] == []


def test_it_is_loaded_when_it_is_used():
    code = """
import sys
import minigrad as mg
print([name for name in sys.modules if name.startswith(("minigrad.utils", "minigrad.data"))])
mg.utils
print("minigrad.utils.data" in sys.modules)
mg.utils.data.DataLoader
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (run.stdout.strip(), run.stderr) == ("[]\nFalse", "")
    with pytest.raises(AttributeError, match=r"'minigrad\.utils' has no attribute 'dlpack'; it has data"):
        mg.utils.dlpack  # noqa: B018


def test_a_batch_is_the_rows_of_its_dataset():
    x = mg.tensor(np.arange(6.0).reshape(3, 2))
    (batch,) = DataLoader(Subset(TensorDataset(x), [2, 0]), batch_size=2)
    assert batch[0].tolist() == [[4, 5], [0, 1]]
