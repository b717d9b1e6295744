"""A contract is checked as a whole when it is loaded, and one that is wrong leaves the others usable."""

import pkgutil
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from event_logs import CLICKS, EVENTS

import schemas.dataset
from schemas.contract import UNANSWERED, Column, Known
from schemas.dataset import Derived, Gain, Lookup, RawColumn, RawFile, Refusal, contract_faults, get_dataset
from schemas.errors import UserError
from schemas.times import checked_zone, digits_time

CRITEO, KUAIRAND = get_dataset("criteo"), get_dataset("kuairand")
USERS = KUAIRAND.lookups[0]
CART, BUY = EVENTS.outcomes
(CLICK,) = CLICKS.outcomes
WRONG = [
    (CRITEO, {"timezone": "GMT+8"}, "the time zone 'GMT\\+8' is not known: use a name such as Asia/Shanghai"),
    (CRITEO, {"timezone": "localtime"}, "is not known"),
    (CRITEO, {"timezone": "right/UTC"}, "is not known"),
    (CRITEO, {"timezone": ""}, "is not known"),
    (CRITEO, {"timezone": UNANSWERED, "channel": UNANSWERED}, "open questions .*: the time zone; channel$"),
    (CRITEO, {"exposed_at_ms": digits_time("log.timestamp", "yyyyMMddHH", UNANSWERED)}, "questions .*: the time zone$"),
    (CRITEO, {"columns": tuple(replace(d, column=replace(d.column, known=Known.UNANSWERED)) if d.column.name == "cpo"
                               else d for d in CRITEO.columns)}, "questions .*: when the values are known of cpo$"),
    (CRITEO, {"channel": "log.cat88"}, "channel: log.cat88: the file of log has no such column"),
    (CRITEO, {"channel": "lgo.cat8"}, "channel: lgo.cat8: there is no view lgo, only log"),
    (CRITEO, {"channel": "users.cat8"}, "there is no view users"),
    (CRITEO, {"channel": 'log."cat 8"'}, "log.cat 8: the file of log has no such column"),
    (CRITEO, {"channel": 'log."it\'s ""new"""'}, "log.it's \"new\": the file of log has no such column"),
    (CRITEO, {"channel": 'log."cat8'}, "channel: a quote is not closed in"),
    (CRITEO, {"channel": "concat('a, log.cat8)"}, "channel: a quote is not closed in"),
    (CRITEO, {"channel": "concat(log.cat8"}, "channel: the brackets do not match"),
    (CRITEO, {"channel": "log.cat8)("}, "channel: the brackets do not match"),
    (CRITEO, {"channel": " "}, "channel: the expression is empty"),
    (CRITEO, {"refusals": (Refusal("odd", "log.clikc = 1"),)}, "refusal 'odd': log.clikc"),
    (CRITEO, {"log_key": ("uid", "timestmap")}, "log_key names 'timestmap'"),
    (CRITEO, {"log_key": ("uid", "campaign")}, "log_key must contain the time"),
    (CRITEO, {"log_key": ("uid", "timestamp", "uid")}, "log_key: the column uid is declared twice"),
    (CRITEO, {"log": replace(CRITEO.log, columns=(*CRITEO.log.columns, RawColumn("UID")))},
     "log: the raw column UID is declared twice"),
    (CRITEO, {"log": replace(CRITEO.log, columns=(*CRITEO.log.columns, RawColumn("x", "date")))}, "dtype names 'date'"),
    (CRITEO, {"gains": ()}, "a log needs a gain"),
    (CRITEO, {"gains": (Gain("click", float("nan")),)}, "the weight of gain click is not a number"),
    (CRITEO, {"gains": (Gain("click", 1.0), Gain("click", 2.0))}, "the gain click is declared twice"),
    (CRITEO, {"channels": ("a", "A")}, "the channel A is declared twice"),
    (CRITEO, {"columns": (*CRITEO.columns, Derived(Column("Cost", "double", "x"), "1"))}, "a column cannot be named"),
    (CRITEO, {"columns": (*CRITEO.columns, Derived(Column("session", "string", "x"), "1"))}, "give it another name"),
    (CRITEO, {"columns": (*CRITEO.columns, Derived(Column("CLICK", "int", "x"), "1"))}, "CLICK is declared twice"),
    (CRITEO, {"columns": tuple(
        replace(d, column=replace(d.column, known=Known.BEFORE)) if d.column.name == "conversion_at_ms" else d
        for d in CRITEO.columns)}, "conversion_at_ms is the time of conversion: a bigint that is never an input"),
    (KUAIRAND, {"lookups": (replace(USERS, key="id"), *KUAIRAND.lookups[1:])}, "lookup user: key names 'id'"),
    (KUAIRAND, {"lookups": (replace(USERS, log_key="id"), *KUAIRAND.lookups[1:])}, "lookup user: log_key names 'id'"),
    (KUAIRAND, {"lookups": (replace(USERS, newest_by="at"), *KUAIRAND.lookups[1:])}, "newest_by names 'at'"),
    (KUAIRAND, {"lookups": (*KUAIRAND.lookups, USERS)}, "the view users is declared twice"),
    (KUAIRAND, {"lookups": (Lookup(RawFile("users", ("*",), (RawColumn("user_id", "string"),)), "user_id", "user_id",
                                   "user"), *KUAIRAND.lookups[1:])}, "user_id and user_id have different types"),
    (EVENTS, {"is_exposure": ""}, "it needs a condition, and the dataset needs is_exposure"),
    (EVENTS, {"outcomes": (replace(CART, condition=""), BUY)}, "outcome cart is in the log: it needs a condition"),
    (EVENTS, {"outcomes": (replace(CART, match=()), BUY)}, "outcome cart needs match"),
    (EVENTS, {"outcomes": (replace(CART, within_hours=-1), BUY)}, "within_hours of at least 0"),
    (EVENTS, {"outcomes": (replace(CART, match=("event",)), BUY)}, "outcome cart: match names 'event'"),
    (EVENTS, {"outcomes": (replace(CART, condition="log.evnt = 'cart'"), BUY)}, "outcome cart, condition: log.evnt"),
    (EVENTS, {"outcomes": (replace(CART, gain="wish"), BUY)}, "wish needs its time column and must be a gain"),
    (EVENTS, {"log_key": (*EVENTS.log_key, "order"), "outcomes": (replace(CART, match=("item", "order")), BUY)},
     "order must not be nullable"),
    (CLICKS, {"outcomes": (replace(CLICK, at_ms=""),)}, "needs at_ms"),
    (CLICKS, {"outcomes": (replace(CLICK, at_ms="log.ts"),)}, "there is no view log, only clicks"),
    (CLICKS, {"outcomes": (replace(CLICK, file_match=("clicked",)),)}, "bid and clicked have different types"),
    (CLICKS, {"outcomes": (replace(CLICK, file_match=("click_bid", "clicked")),)}, "different lengths"),
    (CLICKS, {"is_exposure": "log.bid <> ''"}, "is_exposure needs outcomes in the log"),
]  # fmt: skip


@pytest.mark.parametrize(("dataset", "fields", "problem"), WRONG, ids=[problem for *_, problem in WRONG])
def test_a_wrong_contract_is_one_sentence(dataset, fields, problem):
    with pytest.raises(ValueError, match=f"^dataset {dataset.name}: .*{problem}") as caught:
        replace(dataset, **fields).check()
    assert "\n" not in str(caught.value)


RIGHT = [
    'nullif(log."cat8", -1)',
    "concat('log.nothing and ( an ''open'' bracket', 'lgo.cat8 (\"', log.cat8)",
    "list_transform([log.cat8], lambda x: x + 1)[1]",
    "list_reduce([{'a': log.cat8}], lambda total, x: {'a': total.a + x.a}).a",
    "LOG.CAT8".lower(),
    "1.5 * log.cost",
]


@pytest.mark.parametrize("expression", RIGHT)
def test_a_right_expression_is_not_refused(expression):
    replace(CRITEO, channel=expression).check()


def test_an_outcome_brings_its_columns_and_its_days():
    columns = {d.column.name: d.column for d in EVENTS.columns}
    assert (columns["cart"].known, columns["cart"].known_at) == (Known.AT, "cart_at_ms")
    assert (columns["cart_at_ms"].known, columns["cart_at_ms"].nullable) == (Known.NEVER, True)
    assert EVENTS.late_gains == ("cart", "buy")
    assert replace(EVENTS, title="the same").columns == EVENTS.columns
    # A day may have 23 hours, so 24 hours after a day's last minute may be two days later.
    assert [replace(CART, within_hours=hours).days_later for hours in (0, 23, 24, 47, 48)] == [1, 1, 2, 2, 3]
    assert EVENTS.outcome_days == 2


def test_zones_are_known_to_python_and_to_duckdb():
    for zone in ("UTC", "Asia/Shanghai", "Etc/GMT-8", "America/Argentina/Buenos_Aires"):
        assert checked_zone(zone) == zone
    with pytest.raises(ValueError, match="the pattern 'YYYY-MM'"):
        digits_time("log.hour", "YYYY-MM", "UTC")


@pytest.fixture
def modules(monkeypatch):
    """Adds modules to schemas.datasets; a value is the DATASETS of the module, or the error of its import."""

    def add(**contents):
        names = sorted({*(m.name for m in pkgutil.iter_modules(schemas.datasets.__path__)), *contents})
        monkeypatch.setattr(schemas.dataset.pkgutil, "iter_modules", lambda _: [SimpleNamespace(name=n) for n in names])
        for name, datasets in contents.items():
            module = ModuleType(name)
            if isinstance(datasets, Exception):

                def fail(attribute, error=datasets):
                    raise error

                module.__getattr__ = fail
            else:
                module.DATASETS = datasets
            monkeypatch.setitem(sys.modules, f"schemas.datasets.{name}", module)
        schemas.dataset._contracts.cache_clear()

    yield add
    monkeypatch.undo()
    schemas.dataset._contracts.cache_clear()


def test_a_contract_that_does_not_load_leaves_the_others_usable(modules):
    modules(
        own=ValueError("dataset own: the time zone 'GMT+8' is not known"),
        bad=RuntimeError("boom"),
        nothing=TypeError("x"),
    )
    assert get_dataset("kuairand").name == "kuairand"
    assert set(contract_faults()) == {"own.py", "bad.py", "nothing.py"}
    with pytest.raises(UserError, match=r"unknown dataset 'own': choose one of criteo, .*; own.py is not used: .*GMT"):
        get_dataset("own")


def test_a_copied_contract_leaves_the_original_usable(modules):
    modules(copied=(CRITEO,), kuairand_copied=(KUAIRAND,))
    assert get_dataset("criteo") is CRITEO
    assert get_dataset("kuairand") is KUAIRAND
    assert contract_faults() == {
        "copied.py": "criteo.py has a dataset criteo too: give it another name",
        "kuairand_copied.py": "kuairand.py has a dataset kuairand too: give it another name",
    }


def test_a_name_that_two_modules_claim_is_used_by_neither(modules):
    modules(mine=(EVENTS,), yours=(EVENTS,))
    assert set(contract_faults()) == {"mine.py", "yours.py"}
    with pytest.raises(UserError, match=r"mine.py is not used: yours.py has a dataset events too"):
        get_dataset("events")


def test_a_faulty_dataset_leaves_the_others_of_its_module_usable(modules):
    modules(mine=(EVENTS, replace(EVENTS, name="mine", timezone="GMT+8")))
    assert get_dataset("events") is EVENTS
    with pytest.raises(UserError, match=r"^dataset mine: the time zone 'GMT\+8' is not known"):
        get_dataset("mine")


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: replace(EVENTS, gains=EVENTS.gains[0]), "dataset events: gains must be a tuple"),
        (lambda: replace(EVENTS, outcomes=list(EVENTS.outcomes)), "outcomes must be a tuple"),
        (lambda: replace(EVENTS, log_key="ts"), "log_key must be a tuple"),
        (lambda: replace(EVENTS, channels="abc"), "channels must be a tuple"),
        (lambda: replace(EVENTS, refusals=(("a", "b"),)), r"refusals, element 1 must be a Refusal, not \('a', 'b'\)"),
        (lambda: replace(EVENTS, user_id="log.visitor"), "user_id must be a Derived, not 'log.visitor'"),
        (lambda: replace(EVENTS, exposed_at_ms=5), "exposed_at_ms must be text in quotes, not 5"),
        (lambda: replace(EVENTS, outcome_days="2"), "outcome_days must be a whole number, not '2'"),
        (lambda: replace(EVENTS, gains=(Gain("cart", "1"),)), "gains, element 1: weight must be a number, not '1'"),
        (lambda: replace(EVENTS, log=EVENTS), "log must be a RawFile, not Dataset"),
        (lambda: replace(EVENTS, user_id=replace(EVENTS.user_id, column=Column("u", "int", "d", nullable=1))),
         "user_id: column: nullable must be True or False, not 1"),
        (lambda: replace(EVENTS.log, patterns="events*.csv"), "raw file log: patterns must be a tuple"),
        (lambda: replace(EVENTS.log, null_tokens="NULL"), "null_tokens must be a tuple"),
        (lambda: replace(EVENTS.log, columns=("ts", "visitor")), "columns, element 1 must be a RawColumn, not 'ts'"),
    ],
)  # fmt: skip
def test_a_field_of_another_type_is_one_clear_line(make, line):
    with pytest.raises(ValueError, match=line):
        make()


def test_a_module_that_ends_the_program_leaves_the_others_usable(monkeypatch):
    def import_module(name):
        if name.endswith(".criteo"):
            raise SystemExit(3)
        return sys.modules[name] if name in sys.modules else original(name)

    original = schemas.dataset.importlib.import_module
    monkeypatch.setattr(schemas.dataset.importlib, "import_module", import_module)
    schemas.dataset._contracts.cache_clear()
    try:
        assert get_dataset("kuairand") is KUAIRAND
        assert contract_faults() == {"criteo.py": "3 (SystemExit)"}
    finally:
        schemas.dataset._contracts.cache_clear()


def test_the_outcomes_of_the_guide_are_parts_of_a_contract():
    """The examples of docs/own-log.md, copied."""
    guide = Path(schemas.__file__).resolve().parent.parent / "docs" / "own-log.md"
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL) if "Outcome(" in block
    )
    names = {**vars(schemas.dataset), "digits_time": digits_time}
    exec(code, names)
    log = RawFile(
        "log",
        ("e.csv",),
        (RawColumn("timestamp"), RawColumn("visitorid"), RawColumn("event", "string"), RawColumn("itemid")),
    )
    events = replace(
        EVENTS,
        log=log,
        log_key=("timestamp", "visitorid", "itemid"),
        user_id=replace(EVENTS.user_id, duckdb_sql="log.visitorid"),
        exposed_at_ms="log.timestamp",
        channel="'a'",
        columns=(),
        is_exposure=names["SHOWN"],
        gains=names["GAINS"],
        outcomes=names["OUTCOMES"],
    )
    events.check()
    log = RawFile("log", ("i.csv",), (RawColumn("bidid", "string"), *log.columns))
    clicks = replace(
        events,
        log=log,
        log_key=("bidid", "timestamp"),
        is_exposure="",
        columns=(),
        gains=(Gain("click", 1.0),),
        outcomes=names["CLICKED"],
    )
    clicks.check()
