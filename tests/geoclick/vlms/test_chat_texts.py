import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick import prompts, vlms
from geoclick.vlms import chat_texts
from tests import tiny_families


@pytest.fixture(scope="module", params=tiny_families.FOLDERS)
def processor(request, tmp_path_factory):
    folder = tiny_families.FOLDERS[request.param](tmp_path_factory.mktemp("vlm"))
    return vlms.load(str(folder), device="cpu").processor


def one_by_one(processor, chats, **options):
    options |= chat_texts.without_thoughts(processor)
    return [processor.apply_chat_template(chat, tokenize=False, **options) for chat in chats]


def asked(query, answer=None):
    return prompts.messages(query, answer_format="compact", answer=answer)


@pytest.mark.parametrize(
    "query",
    [
        *("a barn", " two roads ", "", "ein Gebäude\nam Fluß", "{{ 1 }} {% if %}", "a </think> b"),
        *("<tool_response>x</tool_response>", "<|im_end|>", chat_texts.PLACEHOLDER.format(0)),
    ],
)
def test_texts_are_those_of_the_template(processor, query):
    for chats in ([asked(f"{query}{n}") for n in range(6)], [asked(query, f"+({n},1)") for n in range(6)]):
        for generation in (False, True):
            found = chat_texts.render(processor, chats, add_generation_prompt=generation)
            assert found == one_by_one(processor, chats, add_generation_prompt=generation)


def test_forms_may_be_mixed(processor):
    text, image = {"type": "text", "text": "Hello."}, {"type": "image"}
    forms = [
        asked("a barn"),
        asked("a barn", "none"),
        [{"role": "system", "content": [text]}, *asked("two roads", "+(1,2)")],
        [*asked("a road", "+(1,2)"), *asked("and the next one?", "none")],
        [{"role": "user", "content": [text]}, {"role": "assistant", "content": [text]}],
        [{"role": "user", "content": [image, text, image]}, {"role": "assistant", "content": [text]}],
    ]
    chats = forms * 5
    assert chat_texts.render(processor, chats) == one_by_one(processor, chats)


def test_the_template_runs_twice_for_a_thousand_chats(processor, monkeypatch):
    rendered, template = [], processor.apply_chat_template
    monkeypatch.setattr(
        processor,
        "apply_chat_template",
        lambda chats, **options: rendered.extend(chats) or template(chats, **options),
    )
    found = chat_texts.render(processor, [asked(f"number {n}") for n in range(1000)])
    assert len(rendered) == 2
    assert "number 999" in found[-1]


@pytest.mark.parametrize(
    "template", ["{{ text | upper }}", "{{ text }}{{ text | length }}", "{{ text }}{{ text }}"]
)
def test_a_template_that_changes_texts_is_run_for_each_chat(processor, monkeypatch, template):
    turns = "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}{% set text = p.text %}"
    own = f"{turns}{template}{{% endif %}}{{% endfor %}}{{% endfor %}}"
    monkeypatch.setattr(processor, "chat_template", own)
    chats = [asked(f"number {n}") for n in range(12)]
    assert chat_texts.render(processor, chats) == one_by_one(processor, chats)


def test_any_texts(processor):
    # A function of its own, since hypothesis cannot take a fixture with parameters.
    @given(st.lists(st.tuples(st.text(), st.text()), min_size=chat_texts.FEW, max_size=8))
    def check(pairs):
        chats = [asked(*pair) for pair in pairs]
        assert chat_texts.render(processor, chats) == one_by_one(processor, chats)

    check()
