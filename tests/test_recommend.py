"""The decision tree: every branch, the domain table, the corrected figures, and the conversation."""

import itertools

import pytest

import minigrad as mg
from minigrad.training import ask, presets, recommend
from minigrad.training.guide import ALIASES, DOMAINS, INVERTED, QUESTIONS, RULES

BRANCHES = [
    (dict(dataset="large"), "sgd"),  # mini-batch SGD or Adam
    (dict(depth=101), "adamw"),  # more than 50 layers: AdamW or RMSprop
    (dict(depth=51), "adamw"),
    (dict(depth=50), "sgd"),
    (dict(depth="moderate"), "sgd"),
    (dict(fast=True), "adam"),
    (dict(fast=False), "sgd"),
    (dict(generalize=True), "sgd"),
    (dict(generalize=False), "adam"),
    (dict(accelerator="large_batch"), "adamw"),
    (dict(accelerator="memory"), "adam"),
    (dict(), "adamw"),  # the guide's last word
]


@pytest.mark.parametrize(("answers", "rule"), BRANCHES)
def test_every_branch_leads_where_the_tree_says(answers, rule):
    assert recommend(**answers).optimizer == rule


# what the domain table says, in its words: optimizer, schedules, batch sizes
TABLE = [
    ("vision", "sgd", ("cosine", "step"), (64, 256)),
    ("nlp", "adamw", ("warmup_cosine",), (256, 2048)),
    ("llm", "adamw", ("warmup_cosine",), (2048, 8192)),
    ("gan", "adam", ("constant", "linear"), (32, 128)),
    ("rl", "adam", ("constant", "linear"), (32, 256)),
    ("embeddings", "adagrad", ("constant",), None),
]


@pytest.mark.parametrize(("domain", "rule", "schedules", "batch"), TABLE)
def test_a_domain_gets_what_its_field_uses(domain, rule, schedules, batch):
    found = recommend(domain=domain)
    assert (found.optimizer, found.schedule) == (rule, schedules[0])
    assert DOMAINS[domain].schedules == schedules and DOMAINS[domain].batch == batch
    if batch:
        assert batch[0] <= found.batch_size <= batch[1]


def test_details_of_the_table():
    assert recommend(domain="vision").options["momentum"] == 0.9
    assert recommend(domain="gan").options["betas"] == (0.0, 0.99)
    assert recommend(domain="llm").options["betas"] == (0.9, 0.95)
    assert recommend(domain="nlp").clip == 1.0 and 0.01 <= recommend(domain="nlp").warmup <= 0.05


def test_learning_rates_are_in_the_ranges_that_are_right_not_in_the_inverted_ones():
    """SGD 0.01 to 0.1, Adam and AdamW 1e-4 to 1e-3, at the batch sizes of the table."""
    for answers in _all_answers():
        found = recommend(**answers, batch_size=128)
        low, high = {"sgd": (0.01, 0.1)}.get(found.optimizer, (1e-4, 1e-2))
        assert low <= found.lr <= high, (answers, found.lr)
        assert (INVERTED in found.corrections) == (found.optimizer == "sgd")


def test_sgd_scales_with_the_batch_and_adam_with_its_root():
    assert recommend(fast=False, batch_size=1024).lr == pytest.approx(0.4)
    assert recommend(fast=False, batch_size=256).lr == pytest.approx(0.1)
    assert recommend(fast=True, batch_size=1024).lr == pytest.approx(2e-3)
    assert "scales it" in str(recommend(fast=False, batch_size=1024))


def test_where_answers_disagree_votes_count_and_the_domain_doubly():
    assert recommend(depth=101, generalize=True, fast=False).optimizer == "sgd"  # 2 to 1
    assert recommend(domain="nlp", generalize=True).optimizer == "adamw"  # 2 to 1
    assert recommend(domain="nlp", generalize=True, fast=False, depth=12).optimizer == "sgd"  # 3 to 2
    assert "SGD 3, AdamW 2" in str(recommend(domain="nlp", generalize=True, fast=False, depth=12))


def test_a_small_data_set_is_one_batch_and_generalising_brings_cycles_and_decay():
    assert recommend(dataset="small").batch_size is None and "all examples" in str(recommend(dataset="small"))
    found = recommend(generalize=True)
    assert found.schedule == "triangular" and found.options["weight_decay"] == 5e-4


def _all_answers():
    choices = [[None, *DOMAINS], *[[None, *q.answers] for q in QUESTIONS.values()]]
    return [dict(zip(["domain", *QUESTIONS], combination)) for combination in itertools.product(*choices)]


def test_every_recommendation_can_be_made_and_is_told_in_full():
    """2,268 paths: the optimizer takes its options, the schedule exists, the text has question and answer."""
    from minigrad.optim.schedule import SCHEDULES

    for name, rule in RULES.items():
        made = presets.optimizer_named(name, [mg.ones(2, requires_grad=True)], rule.options)
        assert type(made).__name__ == rule.shown
    for answers in _all_answers():
        found = recommend(**answers)
        assert found.schedule in SCHEDULES
        assert set(found.options) <= set(presets.taken(found.optimizer))
        assert (found.warmup > 0) == found.schedule.startswith("warmup")
        text = str(found)
        assert len(found.path) == sum(v is not None for v in answers.values())
        assert all(q in text and a in text and advice in text for q, a, advice in found.path)
        assert f"--optimizer {found.optimizer}" in text


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (dict(domain="cooking"), "the domains are vision"),
        (dict(dataset="huge"), "'large', 'small'"),
        (dict(depth=0), "depth=0"),
        (dict(depth="shallow"), "'deep', 'moderate'"),
        (dict(fast="very"), "True, False"),
        (dict(accelerator="tpu"), "'large_batch', 'memory', 'none'"),
        (dict(batch_size=0), "batch_size=0"),
    ],
)
def test_other_answers_are_refused_with_those_there_are(answers, message):
    with pytest.raises(ValueError, match=message):
        recommend(**answers)


def test_aliases_are_train_pys_models():
    assert recommend(domain="cnn") == recommend(domain="vision")
    assert all(target in DOMAINS for target in ALIASES.values())


# ---- in conversation


def talk(lines, **given):
    asked, shown, lines = [], [], iter(lines)

    def read(prompt):
        asked.append(prompt)
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    return ask(given, read, shown.append), asked, shown


def test_asking_is_the_same_as_telling():
    found, asked, _ = talk(["nlp", "large", "12", "yes", "n", ""])
    assert found == recommend("nlp", "large", 12, True, False)
    assert len(asked) == 6 and asked[1].startswith(QUESTIONS["dataset"].text)


def test_what_is_given_is_not_asked_and_nonsense_is_asked_again():
    found, asked, shown = talk(["purple", "deep", "y"], domain="vision", dataset="large", generalize=True)
    assert found == recommend("vision", "large", "deep", True, True)
    assert len(asked) == 4 and shown == ["'purple' is none of deep, moderate"]  # the last one met the end


def test_the_end_of_the_input_ends_it():
    found, asked, _ = talk([])
    assert found == recommend() and len(asked) == 1
