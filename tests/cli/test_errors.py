"""Errors as the command line shows them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.cli import errors
from promptmill.cli.errors import MOST_SHOWN, lines_of
from promptmill.errors import JobError, Location, Problem, PromptmillError, StartError

WORDS = st.text(st.characters(exclude_categories=("C", "Z", "M")), max_size=150)


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def test_all_parts_in_their_order() -> None:
    where = Location("pipeline.yaml", 14, 14, 9, "      model: gpt-5-mni")
    assert lines_of(Problem("E0203", "unknown model", where, "did you mean it?", "not served")) == [
        "error[E0203]: unknown model",
        "  --> pipeline.yaml:14:14",
        "   |",
        "14 |       model: gpt-5-mni",
        "   |              ^^^^^^^^^",
        "   = help: did you mean it?",
        "   = note: not served",
    ]


@pytest.mark.parametrize(
    ("where", "lines"),
    [
        (None, []),
        (Location("job.yaml"), [" --> job.yaml"]),
        (Location("in.jsonl", 7), [" --> in.jsonl:7"]),
        (Location("in.jsonl", 7, 2), [" --> in.jsonl:7:2"]),
        (Location("j", 1, 1, 1, ""), [" --> j:1:1", "  |", "1 | ", "  | ^"]),
        (Location("j", 1, 3, 2, "\ta: b"), [" --> j:1:3", "  |", "1 | \ta: b", "  | \t ^^"]),
        (Location("j", 1, 4, 2, "日本 de"), [" --> j:1:4", "  |", "1 | 日本 de", "  |      ^^"]),
        (Location("j", 1, 2, 2, "a日本"), [" --> j:1:2", "  |", "1 | a日本", "  |  ^^^^"]),
        (Location("j", 1, 2, 1, "\x1bab"), [" --> j:1:2", "  |", "1 | \\x1bab", "  |     ^"]),
        (Location("j", 1, 3, 1, "e\u0301x"), [" --> j:1:3", "  |", "1 | e\u0301x", "  |  ^"]),
        (Location("j", 1, 90, 3, "a"), [" --> j:1:90", "  |", "1 | ...", "  |    ^"]),
    ],
)
def test_the_window_shows_what_there_is(where: Location | None, lines: list[str]) -> None:
    assert lines_of(Problem("E1", "m", where)) == ["error[E1]: m", *lines]


@given(WORDS, WORDS.filter(bool), WORDS)
def test_the_carets_are_below_their_target_and_lines_stay_short(before: str, target: str, after: str) -> None:
    where = Location("j", 1, len(before) + 1, len(target), before + target + after)
    *_, shown, marked = lines_of(Problem("E1", "m", where))
    shown, marked = shown.removeprefix("1 | "), marked.removeprefix("  | ")
    assert columns(shown) <= 2 * (errors.SHOWN_BEFORE + errors.SHOWN_BEHIND) + 6
    start = columns(marked) - len(marked.lstrip())
    visible = target[: errors.SHOWN_BEHIND]
    assert len(marked.lstrip()) == columns(visible)
    kept = ("..." if len(before) > errors.SHOWN_BEFORE else "") + before[-errors.SHOWN_BEFORE :]
    assert start == columns(kept)
    assert shown.startswith(kept + visible)


def test_a_very_long_line_is_cut_on_both_sides() -> None:
    where = Location("j", 1, 5_001, 4, "x" * 5_000 + "here" + "y" * 5_000)
    *_, shown, marked = lines_of(Problem("E1", "m", where))
    assert shown == "1 | ..." + "x" * 80 + "here" + "y" * 76 + "..."
    assert marked == "  |    " + " " * 80 + "^^^^"


class TestShow:
    def shown(self, capsys: pytest.CaptureFixture[str], error: PromptmillError) -> list[str]:
        errors.show(error)
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err.split("\n")[:-1]

    def test_says_that_nothing_was_sent_when_that_is_sure(self, capsys: pytest.CaptureFixture[str]) -> None:
        lines = self.shown(capsys, JobError("wrong", hint="mend it"))
        assert lines == ["error[E0200]: wrong", "  = help: mend it", "nothing was sent; no cost."]

    def test_does_not_say_so_otherwise(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.shown(capsys, StartError("no connection")) == ["error[E0500]: no connection"]

    def test_many_problems_are_counted(self, capsys: pytest.CaptureFixture[str]) -> None:
        problems = tuple(Problem("E0203", f"problem {number}") for number in range(MOST_SHOWN + 5))
        lines = self.shown(capsys, JobError("many", problems=problems))
        assert lines[MOST_SHOWN - 1 :] == [
            f"error[E0203]: problem {MOST_SHOWN - 1}",
            "... and 5 more",
            "nothing was sent; no cost.",
        ]

    def test_foreign_text_cannot_move_the_cursor(self, capsys: pytest.CaptureFixture[str]) -> None:
        evil = "\x1b[2J\x1b]0;x\x07\u202e[red]"
        where = Location(evil, 1, 1, 1, evil)
        lines = self.shown(capsys, JobError("x", problems=(Problem("E1", evil, where, evil, evil),)))
        text = "\n".join(lines)
        assert not set(text) & {"\x1b", "\x07", "\u202e"}
        assert text.count("\\x1b[2J\\x1b]0;x\\x07\\u202e[red]") == 5
