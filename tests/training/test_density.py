"""The density is fitted on training frames, by the function and by its command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robo_reward.errors import DatasetError  # noqa: E402
from robo_reward.models import load_model  # noqa: E402
from robo_reward.models.compact_network import CompactConfig, CompactNetwork  # noqa: E402
from robo_reward.models.density import FILE, Density  # noqa: E402
from robo_reward.training import shards as shards_module  # noqa: E402
from robo_reward.training.density import fit_density, fit_folder, main, vary  # noqa: E402
from robo_reward.training.shards import read_shard  # noqa: E402
from robo_reward.training.tokenizer import train_tokenizer  # noqa: E402
from robo_reward.training.trainer import save  # noqa: E402

SMALL = CompactConfig(image_size=48, widths=(8, 16, 16), map_width=16, text_width=32, trunk=32)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small shard, recorded in this process."""
    path = tmp_path_factory.mktemp("shards") / "train-8-0000.msgpack"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards_module, "EPISODES_PER_SHARD", 12)
        shards_module._record_shard(str(path), 0, 8, "train", 48)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Random weights: features that nobody trained still tell noise from a scene."""
    torch.manual_seed(0)
    path = tmp_path / "model"
    save(CompactNetwork.of(SMALL), train_tokenizer(512), path)
    return path


def test_the_command_fits_a_folder_and_the_model_uses_it(
    shard: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_model(str(folder), device="cpu").model_id
    assert main([str(folder), str(shard.parent)]) == 0
    assert Path(capsys.readouterr().out.splitlines()[-1]) == folder / FILE
    assert (folder / FILE).stat().st_size < 100_000
    after = load_model(str(folder), device="cpu")
    assert after.model_id != before
    density = Density.load(folder)
    assert density is not None
    network = after.network.encoder  # type: ignore[attr-defined]
    frames = torch.from_numpy(read_shard(shard).frames[::7].copy()).permute(0, 3, 1, 2)
    noise = torch.randint(0, 256, frames.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        known = density.strangeness(network(frames.float() / 127.5 - 1))
        foreign = density.strangeness(network(noise.float() / 127.5 - 1))
    assert (known == 0.0).float().mean() > 0.9
    assert foreign.min() > 0.5
    # The same again gives the same, and new weights leave none behind.
    content = (folder / FILE).read_bytes()
    fit_folder(folder, [shard])
    assert (folder / FILE).read_bytes() == content
    save(CompactNetwork.of(SMALL), train_tokenizer(512), folder)
    assert not (folder / FILE).exists()


def test_variations_stay_near_and_are_repeatable(shard: Path) -> None:
    frames = read_shard(shard).frames[:9].copy()
    varied = vary(frames, seed=0)
    np.testing.assert_array_equal(varied[::3], frames[::3])
    for place in (1, 2):
        assert (varied[place::3] != frames[place::3]).any()
    np.testing.assert_array_equal(varied, vary(frames, seed=0))


def test_a_direction_without_variance_is_no_reason_for_doubt(shard: Path) -> None:
    network = CompactNetwork.of(SMALL).eval()
    frames = np.repeat(read_shard(shard).frames[:1].copy(), 20, 0)
    assert np.isfinite(fit_density(network, frames).knee)


def test_too_little_is_refused(folder: Path, shard: Path) -> None:
    with pytest.raises(DatasetError, match="no training shards"):
        fit_folder(folder, [])
    with pytest.raises(DatasetError, match="10 frames or more, got 3"):
        fit_folder(folder, [shard], frames=3)
