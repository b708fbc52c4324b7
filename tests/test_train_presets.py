"""What an expert would start with does its job in each domain, on a small problem of its kind."""

import io
import json
from math import log

import numpy as np
import pytest

import minigrad as mg
import train
from minigrad import checkpoint, nn, optim, training
from minigrad.nn import functional as F
from minigrad.training import PRESETS
from models.configuration import runs


def stepping(preset, params, steps, **options):
    """Optimizer and an iterator over the steps of a run, which sets the learning rate by the schedule."""
    optimizer, rate = preset.make(params, **options), preset.rate(steps)
    lr = options.get("lr", preset.options["lr"]) / preset.options["lr"]

    def count():
        for t in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = lr * rate(t)
            yield t

    return optimizer, count()


def test_the_table_is_the_articles():
    rules = {name: (p.optimizer, p.schedule) for name, p in PRESETS.items()}
    assert rules["cnn"] == ("sgd", "cosine") and PRESETS["cnn"].options["momentum"] == 0.9
    assert rules["transformer"] == ("adamw", "warmup_cosine")
    assert rules["gan"] == ("adam", "constant") and PRESETS["gan"].options["betas"] == (0.0, 0.99)
    assert rules["rl"] == ("adam", "constant") and rules["embeddings"] == ("adagrad", "constant")
    for preset in PRESETS.values():
        for schedule in (None, *preset.also):
            assert preset.rate(100, schedule)(50) > 0
        with pytest.raises(ValueError, match="this domain's schedules are"):
            preset.rate(100, "one_cycle")


def test_linear_regression_reaches_the_least_squares_solution():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3))
    y = x @ [1.0, -2.0, 0.5] + 0.3 + 0.1 * rng.standard_normal(64)
    design = np.column_stack([x, np.ones(64)])
    expected = np.linalg.lstsq(design, y, rcond=None)[0]
    model = nn.Linear(3, 1)
    inputs, targets = mg.tensor(x.astype("float32")), mg.tensor(y.astype("float32"))[:, None]
    optimizer, steps = stepping(PRESETS["linear regression"], model.parameters(), 300)
    for _ in steps:
        optimizer.zero_grad()
        F.mse_loss(model(inputs), targets).backward()  # the whole data set a step
        optimizer.step()
    found = [*model.weight.detach().numpy()[0], float(model.bias.detach())]
    assert np.allclose(found, expected, atol=1e-4)


def test_a_tiny_gan_learns_where_the_data_are():
    """Data are normal(3, 0.5); the generator starts at about 0."""
    mg.manual_seed(0)
    preset = PRESETS["gan"]
    generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    critic = nn.Sequential(nn.Linear(1, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    size, steps = preset.batch_size, 400
    g_rule, g_steps = stepping(preset, generator.parameters(), steps, lr=5e-3)
    d_rule, d_steps = stepping(preset, critic.parameters(), steps, lr=5e-3)
    assert g_rule.param_groups[0]["betas"] == (0.0, 0.99)
    ones, zeros = mg.ones(size, 1), mg.zeros(size, 1)
    before = float(generator(mg.randn(1000, 4)).detach().mean())
    means = []
    for t, _ in zip(g_steps, d_steps, strict=True):
        real, made = 3 + 0.5 * mg.randn(size, 1), generator(mg.randn(size, 4))
        d_rule.zero_grad()
        loss = F.binary_cross_entropy_with_logits(critic(real), ones)
        (loss + F.binary_cross_entropy_with_logits(critic(made.detach()), zeros)).backward()
        d_rule.step()
        g_rule.zero_grad()
        F.binary_cross_entropy_with_logits(critic(made), ones).backward()
        g_rule.step()
        if t >= steps // 2:
            means.append(float(made.detach().mean()))
    assert abs(before) < 1 and abs(np.mean(means) - 3) < 0.5


def test_policy_gradient_finds_the_best_arm_of_a_bandit():
    mg.manual_seed(0)
    rng, preset = np.random.default_rng(1), PRESETS["rl"]  # another stream than the one that draws arms
    pays = np.array([0.1, 0.3, 0.9, 0.5])
    logits = nn.Parameter(mg.zeros(4))
    optimizer, steps = stepping(preset, [logits], 200, lr=0.05)
    for _ in steps:
        arms = mg.multinomial(F.softmax(logits.detach(), 0), preset.batch_size, replacement=True)
        reward = (rng.random(preset.batch_size) < pays[arms.numpy()]).astype("float32")
        advantage = mg.tensor(reward - reward.mean())
        optimizer.zero_grad()
        (-F.log_softmax(logits, 0)[arms] * advantage).mean().backward()  # REINFORCE with a baseline
        nn.utils.clip_grad_norm_([logits], preset.clip)
        optimizer.step()
    shares = F.softmax(logits.detach(), 0).numpy()
    assert shares.argmax() == 2 and shares[2] > 0.9


def test_embeddings_of_rare_words_are_learned_too():
    """Word k stands beside word k + 8; words are drawn with frequencies 1 / (k + 1)."""
    mg.manual_seed(0)
    rng, preset = np.random.default_rng(0), PRESETS["embeddings"]
    shares = 1 / np.arange(1, 9)
    table = nn.Embedding(8, 4)
    out = nn.Linear(4, 8, bias=False)
    optimizer, steps = stepping(preset, [*table.parameters(), *out.parameters()], 250, lr=0.5)
    for _ in steps:
        words = mg.tensor(rng.choice(8, preset.batch_size, p=shares / shares.sum()))
        optimizer.zero_grad()
        F.cross_entropy(out(table(words)), words).backward()
        optimizer.step()
    hits = out(table(mg.arange(8))).detach().argmax(1)
    assert hits.tolist() == list(range(8))


@pytest.mark.parametrize("model", ["mlp", "cnn", "transformer"])
def test_the_main_job_uses_the_table(model):
    ((c, _),) = runs(["--model", model, "--device", "cpu"])
    preset = PRESETS[model]
    assert (c.optimizer, c.schedule, c.clip) == (preset.optimizer, preset.schedule, preset.clip)
    assert {"lr": c.lr, "weight_decay": c.weight_decay} == {
        k: preset.options[k] for k in ("lr", "weight_decay")
    }


# ------------------------------------------------------------------------------------ options of the main job

SHORT = "--model mlp --epochs 4 --device cpu".split()


def last_loss(out):
    (path,) = out.glob("*/curve.jsonl")
    return json.loads(path.read_text().splitlines()[-1])["loss"]


def test_another_rule_starts_from_its_own_numbers(tmp_path):
    ((c, _),) = runs([*SHORT, "--model", "cnn", "--optimizer", "Lion"])
    rule = train.Run(c).optimizer
    assert (
        type(rule) is optim.Lion
        and rule.param_groups[0]["lr"] == optim.Lion([nn.Parameter(mg.ones(1))]).defaults["lr"]
    )
    ((c, _),) = runs([*SHORT, "--optimizer", "sgd"])
    assert train.Run(c).optimizer.param_groups[0]["nesterov"] is True
    ((c, _),) = runs([*SHORT, "--optimizer", "sgd", "--momentum", "0"])
    assert train.Run(c).optimizer.param_groups[0]["nesterov"] is False


def test_layers_have_learning_rates_of_their_own_by_the_longest_prefix():
    args = ["--lr-of", "layers=0.5", "--lr-of", "layers.1=0.25", "--schedule", "cosine"]
    ((c, _),) = runs([*SHORT, *args])
    run = train.Run(c)
    found = {n: g["lr"] for g in run.optimizer.param_groups for n in g["param_names"]}
    assert found["layers.0.weight"] == 0.5 and found["layers.1.bias"] == 0.25
    assert all(at(0) == group["lr"] for group, at in run.rates)


def test_amp_changes_the_numbers_and_still_learns(tmp_path):
    losses = {}
    for amp in ("", "float16", "bfloat16"):
        train.main([*SHORT, *(["--amp", amp] if amp else []), "--out", str(tmp_path / f"x{amp}")])
        losses[amp] = last_loss(tmp_path / f"x{amp}")
    assert len(set(losses.values())) == 3
    assert all(abs(loss - losses[""]) < 0.01 * losses[""] for loss in losses.values())


@pytest.mark.parametrize("average", [["--ema", "0.98"], ["--swa", "0.5"]])
def test_the_average_of_the_weights_is_what_is_judged_and_kept(tmp_path, average):
    (score,) = train.main([*SHORT, *average, "--out", str(tmp_path)])
    (folder,) = tmp_path.iterdir()
    best, meta = training.weights(folder / "best.safetensors")
    state = training.read(folder).state
    assert meta["score"] == score
    for name, t in best.items():
        assert np.array_equal(t.numpy(), state["average"][f"module.{name}"].numpy())
        assert not np.array_equal(t.numpy(), state["model"][name].numpy())


def test_early_stopping_ends_a_run_that_gets_no_better(tmp_path, capsys):
    args = ["--validation", "0.3", "--lr", "1e-30", "--early-stop", "2"]
    train.main([*SHORT, *args, "--out", str(tmp_path)])
    assert "no better score in 2 looks: stopped after step" in capsys.readouterr().out
    assert training.read(tmp_path / "mlp-digits-adam-0").step < 60
    train.main([*SHORT, *args, "--out", str(tmp_path), "--resume"])  # stays stopped
    assert training.read(tmp_path / "mlp-digits-adam-0").step < 60


@pytest.mark.parametrize("flag", ["--lr-find", "--sweep"])
def test_the_search_for_a_learning_rate_suggests_one_and_trains_nothing(tmp_path, capsys, flag):
    (rate,) = train.main([*SHORT, flag, "--out", str(tmp_path)])
    assert 1e-4 < rate < 1
    assert f"{rate:.2e}" in capsys.readouterr().out
    assert not list(tmp_path.glob("*/*.safetensors"))


def test_a_diagnosis_and_a_recommendation(tmp_path, capsys, monkeypatch):
    train.main([*SHORT, "--diagnose", "--out", str(tmp_path)])
    assert "close looks" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert train.main(["--recommend", "--model", "cnn"]) == []
    assert "python train.py --optimizer sgd" in capsys.readouterr().out


def test_anomaly_names_the_operation(tmp_path, monkeypatch):
    class Spoilt(train.Classification):
        def loss(self, model, batch, reduction="mean"):
            return (super().loss(model, batch, reduction) * 0).sqrt()  # 0 * inf

    monkeypatch.setattr(train, "Classification", Spoilt)
    with pytest.raises(RuntimeError, match="nan"), np.errstate(all="ignore"):
        train.main([*SHORT, "--anomaly", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--optimizer-options", "bets=1"], "Adam takes no bets; it takes lr=0.001, betas="),
        (["--optimizer", "adam+sam"], "adam+sam: Adam goes around no other rule"),
        (["--optimizer", "sam+adm"], "there is no optimizer 'adm'"),
        (["--optimizer", "sam+adamw", "--optimizer-options", "rh=1"], "SAM+AdamW takes no rh; it takes lr="),
        (["--optimizer-options", "bets"], "'bets' is not KEY=VALUE"),
        (["--optimizer-options", "eps=-1"], "eps"),
        (["--schedule-options", "gama=1"], "constant: no option is called gama"),
        (["--lr-of", "head"], "'head' is not PREFIX=LEARNING_RATE"),
        (["--lr-of", "head=0.1"], "--lr-of head: no parameter's name starts so"),
        (["--early-stop", "2"], "--early-stop needs held-out data"),
        (["--ema", "0.9", "--swa"], "--ema and --swa"),
        (["--optimizer", "nag", "--amp", "float16"], "--amp float16: nag asks for the loss several times"),
        (["--optimizer", "sgdhd", "--schedule", "cosine"], "sees to its learning rate"),
        (["--optimizer", "rprop", "--weight-decay", "0.1"], "Rprop takes no weight_decay"),
        (["--resume", "no/such/file"], "no/such/file: there is no such checkpoint"),
    ],
)
def test_options_that_do_not_go_are_one_line_and_exit_code_2(args, says, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main([*SHORT, *args])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_transformers_checkpoint_writes_text_too(tmp_path, capsys, short_validation):
    from models import generate

    train.main(
        ["--model", "transformer", "--epochs", "0.004", "--batch-size", "2", "--device", "cpu"]
        + ["--out", str(tmp_path)]
    )
    folder = next(tmp_path.iterdir())
    texts = [
        generate.main([str(path), "--count", "5", "--prompt", "A"])
        for path in (folder / "best.safetensors", folder / "step-00000004.safetensors")
    ]
    assert all(len(text) == 6 for text in texts)
    assert checkpoint.load(folder / "best.safetensors")[1]["score"] < log(100)
