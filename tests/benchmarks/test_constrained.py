import re

from benchmarks import constrained


def test_every_token_of_the_answers_is_allowed_on_the_embedded_tokenizer(capsys):
    assert constrained.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if re.match(r"\| llguidance \| qwen", line)]
    assert len(rows) == len(constrained.FRAMES)
    assert all(row.endswith("| yes |") for row in rows)
    for name in constrained.LIBRARIES:
        assert f"{name} is not installed." in lines or any(f"| {name} | tokenizer" in line for line in lines)
